//! The script of the labelled run. Each call has a mark of its own, which stands in all that only it
//! causes: names of files, arguments, names of hosts.

use stockade_testkit::{Step, model::Tool};

/// What a mark begins with; a number of [`DIGITS`] follows.
const BEGIN: &str = "zq";
const DIGITS: usize = 3;

/// The number of the mark in what a sub-agent is told.
pub(crate) const SUB_AGENT: usize = 800;

/// A script that edits files: it makes copies, changes them, and starts programs that do.
pub(crate) const EDITS: &str = "#!/bin/sh
for part in a b; do
  cp README.md $1.$part
  sed -i s/shop/shops/ $1.$part
done
python3 -c \"
import subprocess, sys
open('$1.python', 'w').write('x')
subprocess.run(['touch', '$1.child'])
\"
sh -c \"rm $1.b; mkdir $1.d; touch $1.d/$1.x\"
";

/// The same command each time, which does something else each time.
pub(crate) const AGAIN: &str = "#!/bin/sh
n=$(cat again.count); echo $((n + 1)) > again.count
touch zq90$n.one; cp zq90$n.one zq90$n.two; rm zq90$n.one
";
pub(crate) const AGAIN_COMMAND: &str = "./again.sh";

pub(crate) const BUILD: &str = "all: $(T).o $(T).p
\tcp $(T).o $(T).made
%.o:
\ttouch $@
%.p:
\tsh -c 'echo x > $@'
";

/// Makes a mark.
pub(crate) fn mark(number: usize) -> String {
    format!("{BEGIN}{number:0DIGITS$}")
}

/// Returns the marks in a text, each once.
pub(crate) fn marks(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (at, _) in text.match_indices(BEGIN) {
        let mark = text.get(at..at + BEGIN.len() + DIGITS).unwrap_or_default();
        let is_whole =
            mark.len() > BEGIN.len() && mark.chars().skip(BEGIN.len()).all(|c| c.is_ascii_digit());
        if is_whole && !found.iter().any(|other| other == mark) {
            found.push(mark.to_owned());
        }
    }
    found
}

/// Makes marks one after the other, and remembers which hosts the script needs.
pub(crate) struct Script {
    next: usize,
    /// The workspace.
    place: String,
    port: u16,
    /// Hosts that policy allows, and hosts that it denies.
    pub(crate) hosts: Vec<String>,
    /// Files that are there before, with one line `old`.
    pub(crate) files: Vec<String>,
}

impl Script {
    pub(crate) fn new(place: &str, port: u16) -> Self {
        Self {
            next: 0,
            place: place.to_owned(),
            port,
            hosts: Vec::new(),
            files: Vec::new(),
        }
    }

    fn mark(&mut self) -> String {
        self.next += 1;
        mark(self.next)
    }

    fn shell(&mut self, line: &str) -> Tool {
        let mark = self.mark();
        Tool::Shell(line.replace('@', &mark))
    }

    fn files(&mut self) -> Tool {
        self.shell(
            "echo a > @.a && cp @.a @.b && mv @.b @.c && ln -s @.c @.l && rm @.a && /bin/true @",
        )
    }

    fn edits(&mut self) -> Tool {
        self.shell("./edits.sh @")
    }

    fn build(&mut self) -> Tool {
        self.shell("make -s T=@")
    }

    fn late(&mut self) -> Tool {
        self.shell(
            "setsid sh -c 'for i in 1 2 3; do sleep 0.4; touch @.late.$i; done' > /dev/null 2>&1 &",
        )
    }

    fn connects(&mut self, to: &str) -> Tool {
        let mark = self.mark();
        let host = format!("{mark}.{to}.test");
        self.hosts.push(host.clone());
        let port = self.port;
        Tool::Shell(format!(
            "curl -sS -m 60 -o {mark}.page http://{host}:{port}/{mark}"
        ))
    }

    fn python(&mut self) -> Tool {
        self.shell(
            "python3 -c \"import os; [open('@.%d' % n, 'w').write('x') for n in range(4)]; os.rename('@.0', '@.z')\"",
        )
    }

    fn writes(&mut self) -> Tool {
        let mark = self.mark();
        let path = format!("{}/{mark}.txt", self.place);
        Tool::Write {
            path,
            text: "made\n".to_owned(),
        }
    }

    /// Reads a file and then changes it, as agents want it.
    fn changes(&mut self) -> [Step; 2] {
        let name = format!("{}.old", self.mark());
        let path = format!("{}/{name}", self.place);
        self.files.push(name);
        let edit = Tool::Edit {
            path: path.clone(),
            old: "old".to_owned(),
            new: "new".to_owned(),
        };
        [Step::Calls(vec![Tool::Read(path)]), Step::Calls(vec![edit])]
    }

    fn server(&mut self) -> Tool {
        let mark = self.mark();
        Tool::Server(format!(
            "for i in 1 2 3 4 5 6; do touch {mark}.beat.$i; sleep 0.5; done"
        ))
    }

    /// Makes all steps; a sub-agent's too, if the agent has them.
    pub(crate) fn steps(&mut self, has_sub_agents: bool) -> Vec<Step> {
        let one = |tool: Tool| Step::Calls(vec![tool]);
        let mut steps = vec![
            one(self.files()),
            Step::Calls(vec![
                self.files(),
                self.edits(),
                self.writes(),
                self.python(),
            ]),
            one(self.server()),
            one(self.edits()),
            Step::Calls(vec![self.build(), self.connects("friend")]),
            one(self.late()),
            one(self.connects("stranger")),
            one(self.writes()),
        ];
        steps.extend(self.changes());
        steps.extend([
            Step::shell(AGAIN_COMMAND),
            Step::shell(AGAIN_COMMAND),
            Step::Calls(vec![self.connects("stranger"), self.late(), self.build()]),
            one(self.shell(
                "git add -A . > @.log; git commit -q -m @; git push -q origin HEAD:refs/heads/@",
            )),
        ]);
        if has_sub_agents {
            let prompt = format!("Make the part {} of it.", mark(SUB_AGENT));
            let script = vec![
                one(self.files()),
                Step::Calls(vec![self.edits(), self.writes(), self.connects("friend")]),
                Step::say("the part is made"),
            ];
            steps.push(one(Tool::Agent { prompt, script }));
        }
        steps.extend([
            Step::Calls(vec![self.python(), self.files(), self.files()]),
            one(self.shell("for i in 1 2 3; do sleep 0.7; /bin/true @ $i; done; touch @.end")),
            Step::say("all steps are done"),
        ]);
        steps
    }
}
