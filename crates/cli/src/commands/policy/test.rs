//! `stockade policy test`: what would happen, and why.

use std::path::{Path, PathBuf};

use serde::Serialize;
use stockade_policy::{Decision, Origin, Policy, Probe, Request, Review};
use stockade_types::{Digest, RequestKind, RuleId, Target, Verdict};

use super::effective;
use crate::{
    exit::Exit,
    human::safe,
    layers::{self, LayerArgs},
    output::Output,
};

/// Try a request: allowed, asked or denied, by which rule, and what would change it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  stockade policy test -- exec git push origin main\n  \
    stockade policy test -- net POST https://paste.test/\n  \
    stockade policy test --profile codex -- net good.test:443\n  \
    stockade policy test --policy team.toml -- file write .git/config\n  \
    stockade policy test --policy team.toml -- tool Bash command=\"git push\"\n\n\
    Exit code: 0 allowed or asked, 1 denied."
)]
pub(crate) struct Args {
    #[command(flatten)]
    layers: LayerArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// exec, net, file, name or tool with its arguments; or only a command, URL or path
    #[arg(required = true, last = true, value_name = "KIND ARGS")]
    request: Vec<String>,
}

#[derive(Serialize)]
struct Answer<'a> {
    verdict: Verdict,
    kind: RequestKind,
    target: Target,
    rule: Option<&'a RuleId>,
    rules: Vec<&'a RuleId>,
    origin: Option<Origin>,
    source: Option<String>,
    reason: &'a str,
    failed_condition: Option<&'a str>,
    nearest_allow: Option<&'a str>,
    remedy: &'a str,
    http_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    review: Option<&'a Review>,
    policy_revision: Digest,
}

/// Decides the request as a run would.
///
/// # Errors
/// When the policy cannot be loaded or nothing can be printed.
pub(crate) fn run(args: &Args, out: &mut Output) -> anyhow::Result<Exit> {
    let words = places(&args.request);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let probe = match Probe::guess(&words) {
        Ok(probe) => probe,
        Err(error) => {
            out.note(format_args!("stockade: {}", safe(&error.to_string())));
            return Ok(Exit::Usage);
        }
    };
    let policy = effective(&args.layers)?;
    let (request, decision) = policy.rehearse(&probe);
    if args.json {
        out.json(&answer(&policy, &request, &decision))?;
    } else {
        print(&policy, &request, &decision, out)?;
    }
    Ok(if decision.verdict == Verdict::Deny {
        Exit::No
    } else {
        Exit::Yes
    })
}

fn answer<'a>(policy: &Policy, request: &Request, decision: &'a Decision) -> Answer<'a> {
    Answer {
        verdict: decision.verdict,
        kind: request.kind(),
        target: request.target(),
        rule: decision.rule.as_ref(),
        rules: decision.rules.iter().map(|rule| &rule.id).collect(),
        origin: decision.origin,
        source: place(policy, decision),
        reason: &decision.reason,
        failed_condition: decision.failed_condition.as_deref(),
        nearest_allow: decision.nearest_allow.as_deref(),
        remedy: &decision.remedy,
        http_only: decision.http_only,
        review: decision.review(),
        policy_revision: policy.revision(),
    }
}

/// Writes absolute paths as a request has them: below the current directory, which would be the
/// workspace, as relative ones, and elsewhere in the home with `~`.
fn places(words: &[String]) -> Vec<String> {
    // The root is no workspace, and everything would lie in it.
    let current = std::env::current_dir()
        .ok()
        .filter(|dir| dir.parent().is_some());
    let home = layers::home();
    let place = |word: &String| {
        let path = Path::new(word);
        let below = |base: Option<&PathBuf>| {
            let rest = path.strip_prefix(base?).ok()?;
            rest.to_str().map(str::to_owned)
        };
        match (below(current.as_ref()), below(home.as_ref())) {
            (Some(rest), _) => format!("./{rest}"),
            (None, Some(rest)) => format!("~/{rest}"),
            (None, None) => word.clone(),
        }
    };
    match words {
        [kind, access, path] if kind == "file" => vec![kind.clone(), access.clone(), place(path)],
        [path] => vec![place(path)],
        _ => words.to_vec(),
    }
}

/// Returns where the deciding rule stands.
fn place(policy: &Policy, decision: &Decision) -> Option<String> {
    policy
        .rules()
        .into_iter()
        .find(|rule| {
            Some(&rule.id) == decision.rule.as_ref() && Some(rule.origin) == decision.origin
        })
        .map(|rule| rule.source)
}

fn print(
    policy: &Policy,
    request: &Request,
    decision: &Decision,
    out: &mut Output,
) -> anyhow::Result<()> {
    let target = safe(&request.target().summary());
    out.line(format_args!(
        "{:<8}{} {target}",
        decision.verdict.as_str(),
        request.kind()
    ))?;
    if let Some(rule) = &decision.rule {
        let layer = decision.origin.map_or("", Origin::as_str);
        let place =
            place(policy, decision).map_or_else(|| "built-in control".to_owned(), |at| safe(&at));
        out.line(format_args!("rule    {rule} ({layer}, {place})"))?;
    }
    if let Some(review) = decision.review() {
        let reason = if review.reason_required {
            ", with a reason"
        } else {
            ""
        };
        out.line(format_args!("asks    {}{reason}", review.in_words()))?;
    }
    out.line(format_args!("why     {}", safe(&decision.reason)))?;
    if decision.http_only {
        out.line("but     only HTTP, each request judged; TLS is opened for that")?;
    }
    if let Some(condition) = &decision.failed_condition {
        out.line(format_args!("failed  {}", safe(condition)))?;
    }
    if let Some(nearest) = &decision.nearest_allow {
        out.line(format_args!("nearest {}", safe(nearest)))?;
    }
    if !decision.remedy.is_empty() {
        out.line(format_args!("change  {}", safe(&decision.remedy)))?;
    }
    Ok(())
}
