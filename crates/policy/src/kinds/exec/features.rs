//! An execution, taken apart once, so that the check of each rule is cheap.

use stockade_types::RawText;

use crate::{
    ExecRequest,
    pattern::{
        CommandPattern,
        tools::{self, Readings},
    },
};

#[derive(Debug)]
pub(crate) struct ExecFeatures<'r> {
    pub(crate) request: &'r ExecRequest,
    /// Names that the file certainly has.
    own: Vec<&'r [u8]>,
    /// The name in the path that the caller gave.
    invoked: &'r [u8],
    /// The name in `argv[0]`.
    told: &'r [u8],
    pub(crate) arguments: Vec<&'r [u8]>,
    /// The other readings of the arguments, for each name.
    readings: Vec<(&'r [u8], Readings<'r>)>,
}

impl<'r> ExecFeatures<'r> {
    pub(crate) fn new(request: &'r ExecRequest) -> Self {
        let mut own = vec![base_name(request.program.as_bytes())];
        own.extend(
            request
                .aliases
                .iter()
                .map(|alias| base_name(alias.as_bytes())),
        );
        let told = request
            .argv
            .first()
            .map(|word| base_name(word.as_bytes()))
            .unwrap_or_default();
        let arguments: Vec<&[u8]> = request.argv.iter().skip(1).map(RawText::as_bytes).collect();
        let mut features = Self {
            request,
            own,
            invoked: base_name(request.invoked_as.as_bytes()),
            told,
            arguments,
            readings: Vec::new(),
        };
        features.readings = features
            .names()
            .into_iter()
            .map(|name| (name, tools::readings(name, &features.arguments)))
            .collect();
        features
    }

    /// Returns every name that the program has or claims, each once.
    pub(crate) fn names(&self) -> Vec<&'r [u8]> {
        let mut names = self.own.clone();
        names.push(self.invoked);
        names.push(self.told);
        names.retain(|name| !name.is_empty());
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns the first argument of every reading, each once.
    pub(crate) fn first_arguments(&self) -> Vec<&'r [u8]> {
        let mut firsts: Vec<&[u8]> = self.arguments.first().copied().into_iter().collect();
        let others = self.readings.iter().flat_map(|(_, readings)| {
            let behind = readings.behind_options.iter();
            behind.chain(&readings.words)
        });
        firsts.extend(others.filter_map(|reading| reading.first().copied()));
        firsts.sort_unstable();
        firsts.dedup();
        firsts
    }

    /// For asks and denies: one matching name and one matching reading are enough, except for
    /// readings that certainly match one of `unless`.
    pub(crate) fn could_be(&self, command: &CommandPattern, unless: &[CommandPattern]) -> bool {
        let by_path = command.names_path() && self.is_at(command);
        let named = |name: &[u8]| by_path || (!command.names_path() && command.matches_name(name));
        let own_names = self.names();
        if !by_path && !own_names.iter().any(|name| named(name)) {
            return false;
        }
        let fits = |words: &&[&[u8]]| command.matches_arguments(words);
        let readings = || self.readings.iter().filter(|(name, _)| named(name));
        let behind = readings().flat_map(|(_, readings)| &readings.behind_options);
        let plain: Vec<&[&[u8]]> = std::iter::once(self.arguments.as_slice())
            .chain(behind.map(Vec::as_slice))
            .filter(fits)
            .collect();
        if plain.is_empty() {
            let words = readings().flat_map(|(_, readings)| &readings.words);
            return words.map(Vec::as_slice).any(|words| fits(&words));
        }
        let excused = |words: &&[&[u8]]| {
            unless
                .iter()
                .any(|own| self.is_surely_named(own) && own.matches_arguments(words))
        };
        !plain.iter().all(excused)
    }

    /// Returns whether the pattern's path is one of the program's.
    fn is_at(&self, command: &CommandPattern) -> bool {
        let own = [&self.request.program, &self.request.invoked_as];
        let aliases = self.request.aliases.iter().map(String::as_bytes);
        let mut paths = own.into_iter().map(RawText::as_bytes).chain(aliases);
        paths.any(|path| command.matches_name(path))
    }

    /// For allows: the file's name and the name by which it is called must both match, and the
    /// arguments must match as they are.
    pub(crate) fn is_surely(&self, command: &CommandPattern) -> bool {
        self.is_surely_named(command) && command.surely_matches_arguments(&self.arguments)
    }

    fn is_surely_named(&self, command: &CommandPattern) -> bool {
        if command.names_path() {
            return command.matches_name(self.request.program.as_bytes());
        }
        self.own.iter().any(|own| command.matches_name(own)) && command.matches_name(self.invoked)
    }
}

/// Returns the part after the last slash.
fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or(path)
}
