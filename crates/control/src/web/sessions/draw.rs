//! How the timeline of a session looks.

use maud::{Markup, html};
use stockade_event::{text::bytes, tree::Sort};
use stockade_types::Verdict;

use super::{
    super::{
        call::Call,
        page::{Mood, Page, clock, foreign, note, raw, state, time, token},
        serving::View,
    },
    actions::reading,
    boundary, life, record,
    timeline::{SORTS, Timeline},
    tree::{Row, Strip},
    words,
};

/// Levels that are indented; deeper ones stand below the last of them.
const INDENTED_MAX: usize = 10;
/// Height of the strip, and width of one of its columns.
const STRIP_HEIGHT: u64 = 40;
const STRIP_WIDTH: usize = 10;

impl View for Timeline {
    fn page(&self, call: &Call) -> Page {
        let session = &self.session;
        let path = self.path();
        let body = html! {
            @match call.query("done") {
                "stopped" => (note(Mood::Good, "The machine is told to end the session.")),
                "waits" => (note(Mood::Open, "The machine is not connected. It is told as soon as it is, for ten minutes.")),
                _ => {}
            }
            @if let Some(fault) = &session.fault {
                (note(Mood::Bad, html! { "The record is broken: " (foreign(fault)) }))
            }
            (self.facts(call))
            (self.actions(call, &path))
            (draw_strip(&self.strip))
            h2 #timeline { "What happened" }
            (self.filter(&path))
            (self.breadcrumb(&path))
            (self.tree(&path))
            (self.pager(&path))
            @if self.more > 0 { p.quiet { (self.more) " more lines have no room here; they are among the events." } }
            p { a href={ (path) "/events" } { "All " (session.events) " events, one by one" } }
            (self.network())
            (self.files())
        };
        let page = Page::new(words(session), body);
        if session.live && session.ended.is_none() {
            return page.live(format!("session/{}/{}", session.node, session.id.as_str()));
        }
        page
    }
}

impl Timeline {
    fn path(&self) -> String {
        format!(
            "/sessions/{}/{}",
            self.session.node,
            self.session.id.as_str()
        )
    }

    fn facts(&self, call: &Call) -> Markup {
        let session = &self.session;
        html! {
            dl.facts.tight {
                dt { "State" } dd { (life(session)) }
                dt { "Person" } dd { (foreign(session.person.as_deref().unwrap_or("unknown"))) }
                dt { "Machine" } dd { a href={ "/fleet/" (session.node) } { (foreign(&session.machine)) } }
                dt { "Workspace" } dd { (raw(&session.workspace)) }
                dt { "Boundary" } dd { (boundary(session)) }
                dt { "Record" } dd { (record(session)) ", held to event " (session.events) }
                @if let Some(at) = session.started { dt { "Began" } dd { (time(at, call.now)) } }
                @if let Some(at) = session.ended { dt { "Ended" } dd { (time(at, call.now)) } }
                dt { "Id" } dd { code { (session.id.as_str()) } }
            }
        }
    }

    fn actions(&self, call: &Call, path: &str) -> Markup {
        html! {
            @if self.may_stop && !self.session.closed {
                form.stop method="post" action={ (path) "/stop" } {
                    (token(call))
                    button.no { "End this session" }
                }
            }
            (reading(call, &self.content, path))
        }
    }

    fn filter(&self, path: &str) -> Markup {
        let wish = &self.wish;
        html! {
            form.filter method="get" action={ (path) "#timeline" } {
                div {
                    label for="kind" { "Kind" }
                    select #kind name="kind" {
                        option value="" { "all" }
                        @for (word, sort, words) in SORTS {
                            option value=(word) selected[wish.sort == Some(sort)] { (words) }
                        }
                    }
                }
                div {
                    label for="verdict" { "Verdict" }
                    select #verdict name="verdict" {
                        option value="" { "any" }
                        @for (verdict, words) in [(Verdict::Allow, "allowed"), (Verdict::Ask, "asked"), (Verdict::Deny, "denied")] {
                            option value=(verdict.as_str()) selected[wish.verdict == Some(verdict)] { (words) }
                        }
                    }
                }
                div.wide {
                    label for="text" { "Host, path or command" }
                    input #text name="text" value=(wish.text) autocomplete="off";
                }
                .buttons {
                    button { "Filter" }
                    @if !wish.is_empty() { a.button href={ (path) "#timeline" } { "All" } }
                }
            }
            @if !wish.is_empty() { p role="status" { (self.part.found) " of " (self.nodes) " lines." } }
        }
    }

    fn breadcrumb(&self, path: &str) -> Markup {
        html! {
            @if self.part.path.len() > 1 {
                nav.crumbs aria-label="Where this is" { ol {
                    @for (index, row) in self.part.path.iter().enumerate() {
                        li {
                            @if index == 0 { a href={ (path) "#timeline" } { "Session" } }
                            @else {
                                a href={ (path) "?at=" (row.seq) "#timeline" }
                                    aria-current=[(index + 1 == self.part.path.len()).then_some("true")]
                                {
                                    @let (word, text) = labelled(row);
                                    (kind(row.sort, word)) " " (foreign(&short(text)))
                                }
                            }
                        }
                    }
                } }
            }
        }
    }

    fn tree(&self, path: &str) -> Markup {
        html! {
            @if self.part.rows.is_empty() {
                p.quiet { @if self.wish.is_empty() { "Nothing is below this yet." } @else { "Nothing is so." } }
            } @else {
                .table tabindex="0" role="region" aria-label="What happened" { table.tree {
                    thead { tr {
                        th scope="col" { "Time" } th scope="col" { "What" } th scope="col" { "How it went" }
                    } }
                    tbody { @for row in &self.part.rows { (self.line(row, path)) } }
                } }
            }
        }
    }

    fn line(&self, row: &Row, path: &str) -> Markup {
        let is_here = self.part.at == Some(row.seq);
        let indent = row.depth.clamp(1, INDENTED_MAX);
        html! {
            tr id={ "e" (row.seq) } data-row class=[is_here.then_some("here")] {
                td.nowrap { a href={ (path) "/events/" (row.seq) } { (clock(row.at_ns)) } }
                td.what {
                    div class={ "d" (indent) } {
                        span.visually-hidden { "level " (row.depth) ": " }
                        @let (word, text) = labelled(row);
                        (kind(row.sort, word)) " "
                        @if row.withheld { span.quiet { (foreign(text)) " (words not shown)" } }
                        @else { (foreign(text)) }
                        @if row.below > 0 {
                            " " a.more href={ (path) "?at=" (row.seq) "#timeline" } {
                                (row.below) " below" span.visually-hidden { " " (short(&row.text)) }
                            }
                        }
                        (explained(row))
                    }
                }
                td {
                    @if let Some(verdict) = row.verdict { (super::super::page::verdict(verdict.as_str())) }
                    @if !row.facts.is_empty() { span.hint { (row.facts.trim_start_matches([',', ' '])) } }
                }
            }
        }
    }

    fn pager(&self, path: &str) -> Markup {
        let at = self.part.path.last().filter(|_| self.part.path.len() > 1);
        let link = |from: usize| match at {
            Some(row) => format!("{path}?at={}&from={from}#timeline", row.seq),
            None => format!("{path}?from={from}#timeline"),
        };
        html! {
            @if self.part.previous.is_some() || self.part.next.is_some() {
                nav.pager aria-label="Pages of the timeline" {
                    @if let Some(from) = self.part.previous { a.button href=(link(from)) { "Earlier" } }
                    @if let Some(from) = self.part.next { a.button href=(link(from)) { "Later" } }
                }
            }
        }
    }

    fn network(&self) -> Markup {
        html! {
            @if !self.network.is_empty() {
                h2 #network { "Network" }
                .table tabindex="0" role="region" aria-label="Network" { table {
                    thead { tr {
                        th scope="col" { "Host" } th.number scope="col" { "Connections" }
                        th.number scope="col" { "Sent" } th.number scope="col" { "Received" }
                    } }
                    tbody { @for one in &self.network { tr {
                        th scope="row" { (foreign(&one.host)) }
                        td.number { (one.connections) @if one.failed > 0 { span.hint { (one.failed) " failed" } } }
                        td.number { (bytes(one.bytes_out)) }
                        td.number { (bytes(one.bytes_in)) }
                    } } }
                } }
            }
        }
    }

    fn files(&self) -> Markup {
        html! {
            @if !self.files.is_empty() {
                h2 #files { "Files changed" }
                details {
                    summary { (self.files.len()) " listed" @if self.files_more > 0 { ", " (self.files_more) " more" } }
                    ul.files { @for file in &self.files {
                        li { code { (foreign(&file.path)) } @if file.times > 1 { span.quiet { " " (file.times) " times" } } }
                    } }
                }
            }
        }
    }
}

/// Returns the word in front of a line, and the rest of it: the text of some sorts begins with the kind of
/// the request.
fn labelled(row: &Row) -> (&str, &str) {
    let word = match row.sort {
        Sort::Session => "session",
        Sort::Prompt => "prompt",
        Sort::Tool => "tool",
        Sort::Process => "run",
        Sort::Own => "own",
        Sort::Changed => "change",
        Sort::Note => "note",
        Sort::Ended => "end",
        Sort::Called => "model",
        Sort::Plan => "plan",
        Sort::Connected => "net",
        Sort::Refused => "refused",
        Sort::Asked => "asked",
    };
    let has_kind = matches!(
        row.sort,
        Sort::Called | Sort::Plan | Sort::Connected | Sort::Refused | Sort::Asked
    );
    match row.text.split_once(' ') {
        Some((kind, rest)) if has_kind && !row.withheld => (kind, rest.trim_start()),
        Some(_) | None => (word, &row.text),
    }
}

/// Shows the word in front of a line.
fn kind(sort: Sort, word: &str) -> Markup {
    let class = match sort {
        Sort::Prompt | Sort::Tool => "kind strong",
        Sort::Refused => "kind bad",
        Sort::Asked => "kind open",
        Sort::Session
        | Sort::Process
        | Sort::Own
        | Sort::Changed
        | Sort::Connected
        | Sort::Called
        | Sort::Plan
        | Sort::Note
        | Sort::Ended => "kind",
    };
    html! { span class=(class) { (foreign(word)) } }
}

fn short(text: &str) -> String {
    stockade_event::text::cut(text, 60)
}

/// Shows what explains a line: of a refusal at once, of what was said when it is opened.
fn explained(row: &Row) -> Markup {
    let Some(detail) = row.detail.as_ref().filter(|detail| *detail != &row.text) else {
        return html! {};
    };
    let at_once = matches!(
        row.sort,
        Sort::Refused | Sort::Note | Sort::Asked | Sort::Connected
    );
    html! {
        @if at_once { span.hint { (foreign(detail)) } }
        @else {
            details { summary { "more" } pre { (super::super::page::lines(detail)) } }
        }
    }
}

/// Draws what happened when; the numbers are in the text beside it.
fn draw_strip(strip: &[Strip]) -> Markup {
    let most = strip.iter().map(|one| one.count).max().unwrap_or(0);
    if most == 0 {
        return html! {};
    }
    let height = |count: u64| (count * STRIP_HEIGHT).div_ceil(most).min(STRIP_HEIGHT);
    let width = strip.len() * STRIP_WIDTH;
    let (denied, asked) = strip.iter().fold((0, 0), |(denied, asked), one| {
        (denied + one.denied, asked + one.asked)
    });
    let words = format!("What happened over time: {denied} refusals, {asked} questions.");
    html! {
        figure.strip {
            svg viewBox={ "0 0 " (width) " " (STRIP_HEIGHT + 8) } role="img" aria-label=(words) preserveAspectRatio="none" {
                @for (index, one) in strip.iter().enumerate() {
                    @let x = index * STRIP_WIDTH;
                    @if one.count > 0 {
                        rect.all x=(x + 1) y=(STRIP_HEIGHT - height(one.count)) width=(STRIP_WIDTH - 2) height=(height(one.count)) {}
                    }
                    @if one.denied > 0 {
                        rect.denied x=(x + 1) y=(STRIP_HEIGHT - height(one.denied).max(3)) width=(STRIP_WIDTH - 2) height=(height(one.denied).max(3)) {}
                    }
                    @if one.asked > 0 { rect.asked x=(x + 3) y=(STRIP_HEIGHT + 3) width="4" height="4" {} }
                }
            }
            figcaption {
                "From beginning to end: " (state(Mood::Plain, "all")) " " (state(Mood::Bad, &format!("{denied} refused")))
                " " (state(Mood::Open, &format!("{asked} asked")))
            }
        }
    }
}
