//! `stockade completions`: shell completions on standard output.

use clap_complete::Shell;

use crate::{exit::Exit, output::Output};

/// Arguments of `stockade completions`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  stockade completions bash > ~/.local/share/bash-completion/completions/stockade\n  \
                  stockade completions zsh > DIRECTORY_OF_FPATH/_stockade\n  \
                  stockade completions fish > ~/.config/fish/completions/stockade.fish\n\n\
                  The completions of bash, zsh and fish know sessions, presets, variables and kept answers, and\n\
                  complete the command behind `run --`."
)]
pub(crate) struct Args {
    /// Shell
    shell: Shell,
}

/// The first part for bash: candidates are compared as text, never evaluated by the shell.
const BASH: &str = r#"
_stockade_values() {
    local current="${COMP_WORDS[COMP_CWORD]}" index line
    if [[ ${COMP_WORDS[1]} == run ]]; then
        for ((index = 2; index < COMP_CWORD; index++)); do
            if [[ ${COMP_WORDS[index]} == -- ]]; then
                if declare -F _command_offset > /dev/null; then
                    _command_offset $((index + 1))
                elif ((COMP_CWORD == index + 1)); then
                    mapfile -t COMPREPLY < <(compgen -c -- "$current")
                fi
                return
            fi
        done
    fi
    COMPREPLY=()
    while IFS= read -r line; do
        COMPREPLY+=("$line")
    done < <("${COMP_WORDS[0]}" __complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2> /dev/null)
    ((${#COMPREPLY[@]})) || _stockade "$@"
}
complete -F _stockade_values -o bashdefault -o default stockade
"#;

/// The end of clap's script for zsh, and its replacement.
const ZSH_END: &str = "    _stockade \"$@\"\nelse\n    compdef _stockade stockade\nfi";
const ZSH: &str = r#"    _stockade_values "$@"
else
    compdef _stockade_values stockade
fi"#;
const ZSH_VALUES: &str = r#"
_stockade_values() {
    local at
    local -a values
    at=${words[(i)--]}
    if [[ $words[2] == run ]] && ((at < CURRENT)); then
        shift $at words
        ((CURRENT -= at))
        _normal
        return
    fi
    values=(${(f)"$($words[1] __complete -- "${(@)words[2,CURRENT]}" 2> /dev/null)"})
    if (($#values)); then
        compadd -- $values
    else
        _stockade "$@"
    fi
}

"#;

const FISH: &str = r"
function __stockade_values
    set -l words (commandline -opc) (commandline -ct)
    $words[1] __complete -- $words[2..] 2> /dev/null
end
function __stockade_command
    set -l words (commandline -opc)
    set -l at (contains -i -- -- $words)
    and test $words[2] = run
    and complete -C (string join ' ' -- (string escape -- $words[(math $at + 1)..]) (commandline -ct))
end
complete -c stockade -k -a '(__stockade_values)'
complete -c stockade -l profile -r -f -a '(__stockade_values)'
complete -c stockade -l env -r -f -a '(__stockade_values)'
complete -c stockade -k -a '(__stockade_command)'
";

/// Prints the completions.
pub(crate) fn run(args: &Args, out: &mut Output) -> anyhow::Result<Exit> {
    let mut buffer = Vec::new();
    clap_complete::generate(
        args.shell,
        &mut super::visible(&crate::definition()),
        "stockade",
        &mut buffer,
    );
    let mut text = String::from_utf8_lossy(&buffer).into_owned();
    match args.shell {
        Shell::Bash => text.push_str(BASH),
        Shell::Fish => text.push_str(FISH),
        Shell::Zsh => {
            let own = text.replace(ZSH_END, ZSH);
            anyhow::ensure!(own != text, "the script for zsh has another end");
            let (front, end) = own.rsplit_once("\nif [ \"$funcstack").unwrap_or((&own, ""));
            text = format!("{front}{ZSH_VALUES}if [ \"$funcstack{end}");
        }
        // The other shells that clap knows get no values of ours.
        _ => {}
    }
    out.raw(text)?;
    Ok(Exit::Yes)
}
