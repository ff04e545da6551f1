//! The report as one HTML page: for narrow and wide screens, light and dark mode, without scripts or other files.

mod audits;
mod picture;
mod text;

use std::fmt::Write;

use super::{Change, CleanReport, Reason, Rejection, Sample, Turn};
use crate::read::Place;
use crate::registry::Registry;
use foehn_record::Role;
use text::{escape, escaped, marked, number, percent, sentence};

const STYLE: &str = include_str!("style.css");

/// The largest number of rows on a page. The JSON has all of them.
const MAX_ROWS: usize = 2000;

/// The labels of at most this many keys are shown as charts.
const MAX_PICTURES: usize = 8;

pub(super) fn page(report: &CleanReport) -> String {
    let mut page = String::with_capacity(1 << 16);
    // The content security policy forbids everything that is not in the page, in case a text is ever not escaped.
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{} of {} records kept</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n",
        number(report.kept),
        number(report.read),
    );
    page.push_str(&header(report));
    page.push_str("<main>\n");
    page.push_str(&passes(report));
    page.push_str(&distributions(report));
    page.push_str(&sections(report));
    page.push_str(&reasons(report));
    page.push_str(&flags(report));
    page.push_str(&repairs(report));
    page.push_str(&put_back(report));
    page.push_str(&every_flag(report));
    page.push_str(&rejections(report));
    page.push_str("</main>\n");
    page.push_str(
        "<footer><p class=\"soft\">A record that was rejected can be put back: name its id to <code>clean --keep ID</code>. \
         Made by Foehn. This page holds all that it shows, and can be sent as it is.</p></footer>\n</body>\n</html>\n",
    );
    page
}

fn header(report: &CleanReport) -> String {
    let files = match report.inputs.as_slice() {
        [] => "nothing".to_owned(),
        [one] => format!("<code>{}</code>", escaped(one)),
        [first, rest @ ..] => format!("<code>{}</code> and {} more files", escaped(first), rest.len()),
    };
    let read_as: Vec<String> =
        report.read_as.iter().filter(|file| file.is_unusual()).map(|file| escaped(&file.to_string())).collect();
    let read_as = if read_as.is_empty() { String::new() } else { format!(" {}.", read_as.join("; ")) };
    let mut links = vec![("passes", "What each pass did"), ("set", "The set that is kept")];
    if !report.sections.is_empty() {
        links.push(("audits", "Audits"));
    }
    if !report.reasons.is_empty() {
        links.push(("reasons", "Why records were rejected"));
    }
    if !report.flag_reasons.is_empty() {
        links.push(("flags", "What to look at"));
    }
    if !report.repairs.is_empty() {
        links.push(("repairs", "What was repaired"));
    }
    let links: String = links.iter().map(|(id, name)| format!("<a href=\"#{id}\">{name}</a>")).collect();
    let changed = report.passes.iter().map(|pass| pass.changed).max().unwrap_or(0);
    let changed = if changed > 0 { " Some of them were repaired first." } else { "" };
    let flagged = match report.flagged {
        0 => String::new(),
        count => format!(" {} of them are flagged, and worth a look.", number(count)),
    };
    let left_out = match report.left_out.len() {
        0 => String::new(),
        _ => format!(" Left out: {}.", escaped(&report.left_out_in_words())),
    };
    format!(
        "<header><p class=\"eyebrow\">Cleaning report</p><h1>{} of {} records kept</h1>\
         <p class=\"soft\">From {files}.{read_as}{changed}{flagged}{left_out}</p>{}<nav aria-label=\"On this page\">{links}</nav></header>\n",
        number(report.kept),
        number(report.read),
        picture::hero(report.kept, report.rejected),
    )
}

fn passes(report: &CleanReport) -> String {
    let registry = Registry::default();
    let what = |name: &str| match name {
        "read" => "every line, row or element that gives a record".to_owned(),
        name => {
            registry.passes().find(|(known, _)| *known == name).map_or_else(String::new, |(_, what)| what.to_owned())
        }
    };
    let most = report.passes.iter().map(|pass| pass.rejected).max().unwrap_or(0);
    let mut page = String::from(
        "<h2 id=\"passes\">What each pass did</h2><p class=\"soft\">From top to end. A record that one pass rejects, the \
         next ones do not see.</p><div class=\"card scroll\"><table class=\"passes\"><tr><th scope=\"col\">Pass</th>\
         <th scope=\"col\" class=\"number\">Repaired</th><th scope=\"col\" class=\"number\">Kept</th>\
         <th scope=\"col\" class=\"number\">Rejected</th><th scope=\"col\" class=\"number\">Flagged</th></tr>",
    );
    for pass in &report.passes {
        let meter = if pass.rejected > 0 { picture::meter(pass.rejected, most, "lost") } else { String::new() };
        let count = |count| if count == 0 { "<span class=\"soft\">–</span>".to_owned() } else { number(count) };
        let _ = write!(
            page,
            "<tr><td><b>{}</b><p class=\"soft\"><small>{}</small></p></td><td class=\"number\" data-label=\"Repaired\">{}</td>\
             <td class=\"number\" data-label=\"Kept\">{}</td><td class=\"number\" data-label=\"Rejected\">{}{meter}</td>\
             <td class=\"number\" data-label=\"Flagged\">{}</td></tr>",
            escaped(&pass.pass),
            escaped(&what(&pass.pass)),
            count(pass.changed),
            count(pass.kept),
            count(pass.rejected),
            count(pass.flagged),
        );
    }
    page + "</table></div>\n"
}

fn distributions(report: &CleanReport) -> String {
    let all = &report.distributions;
    let mut page = format!(
        "<h2 id=\"set\">The set that is kept</h2><p class=\"soft\">{} records. A dashed line stands at the median.</p>",
        number(report.kept)
    );
    if report.kept == 0 {
        return page + "\n";
    }
    page.push_str("<div class=\"grid\">");
    page.push_str(&picture::histogram("Characters of the prompts", "characters", &all.prompt_characters));
    page.push_str(&picture::histogram("Characters of the answers", "characters", &all.answer_characters));
    if let Some(pairs) = &all.pairs {
        let bias = pairs.bias().map_or_else(String::new, |bias| format!("; {bias}"));
        page.push_str(&format!("<p>{}{bias}.</p>\n", pairs.said()));
    }
    if all.answers.max > 1 {
        page.push_str(&picture::histogram("Answers in a conversation", "answers", &all.answers));
    }
    let note = "Told by their trigrams. A text that is short or mixed is not told.";
    page.push_str(&picture::bars("Languages", note, &all.languages));
    // A single label for all records needs no chart.
    for label in all.labels.iter().filter(|label| label.counts.len() > 1).take(MAX_PICTURES) {
        page.push_str(&picture::bars(&format!("Records by {}", label.key), "", &label.counts));
    }
    page + "</div>\n"
}

fn sections(report: &CleanReport) -> String {
    if report.sections.is_empty() {
        return String::new();
    }
    let sections: String = report.sections.iter().map(audits::section).collect();
    format!(
        "<h2 id=\"audits\">Audits</h2><p class=\"soft\">What there is to know of the set as a whole. An audit rejects nothing.</p>\
         {sections}\n"
    )
}

fn reasons(report: &CleanReport) -> String {
    let head = "<h2 id=\"reasons\">Why records were rejected</h2><p class=\"soft\">Open a reason to see its first records. \
                Where two records are compared, what differs is marked.</p>";
    all_reasons(head, &report.reasons, &report.rejections, report.read)
}

fn flags(report: &CleanReport) -> String {
    let head = "<h2 id=\"flags\">What to look at</h2><p class=\"soft\">These records are kept. What a pass found there may be \
                a fault, and may be meant.</p>";
    all_reasons(head, &report.flag_reasons, &report.flags, report.read)
}

fn all_reasons(head: &str, reasons: &[Reason], found: &[Rejection], read: u64) -> String {
    if reasons.is_empty() {
        return String::new();
    }
    let mut page = head.to_owned();
    let mut last = "";
    for reason in reasons {
        if reason.pass != last {
            let _ = write!(page, "<h3>{}</h3>", escaped(&reason.pass));
            last = &reason.pass;
        }
        page.push_str(&one_reason(reason, found, read));
    }
    page + "\n"
}

fn one_reason(reason: &Reason, found: &[Rejection], read: u64) -> String {
    let mut page = format!(
        "<details class=\"card\"><summary>{} <span class=\"soft\">{} {}, {}</span></summary><div class=\"inside\">",
        sentence(&reason.reason),
        number(reason.count),
        if reason.count == 1 { "record" } else { "records" },
        percent(reason.count, read),
    );
    for sample in &reason.samples {
        if let Some(rejection) = found.get(sample.rejection) {
            page.push_str(&one_sample(sample, rejection));
        }
    }
    page + "</div></details>"
}

fn one_sample(sample: &Sample, rejection: &Rejection) -> String {
    let mut page = format!(
        "<div class=\"sample\"><p><code>{}</code> <span class=\"soft place\">{}</span><br>{}</p>",
        escaped(&rejection.id),
        place(&rejection.place),
        sentence(&rejection.reason),
    );
    if sample.other.is_empty() {
        sample.text.iter().for_each(|turn| page.push_str(&bubble(turn, &escaped(&turn.text))));
        return page + "</div>";
    }
    let (mut left, mut right) = (String::new(), String::new());
    for at in 0..sample.text.len().max(sample.other.len()) {
        let [this, other] = [sample.text.get(at), sample.other.get(at)];
        let text = |turn: Option<&Turn>| turn.map_or("", |turn| turn.text.as_str()).to_owned();
        let [this_text, other_text] = marked(&text(this), &text(other));
        left.push_str(&this.map_or_else(String::new, |turn| bubble(turn, &this_text)));
        right.push_str(&other.map_or_else(String::new, |turn| bubble(turn, &other_text)));
    }
    let other = rejection.others.first().map_or_else(String::new, place);
    let _ = write!(
        page,
        "<div class=\"pair\"><div><h4>This record</h4>{left}</div><div><h4>Because of <span class=\"place\">{other}</span></h4>\
         {right}</div></div></div>"
    );
    page
}

/// A message; `text` is already escaped.
fn bubble(turn: &Turn, text: &str) -> String {
    let (class, name) = match turn.role {
        Some(Role::System) => ("turn", "<b>System</b>"),
        Some(Role::User) => ("turn", "<b>User</b>"),
        Some(Role::Assistant) => ("turn assistant", "<b>Assistant</b>"),
        Some(Role::Tool) => ("turn", "<b>Tool</b>"),
        None => ("turn", ""),
    };
    format!("<div class=\"{class}\" dir=\"auto\">{name}{text}</div>")
}

fn repairs(report: &CleanReport) -> String {
    if report.repairs.is_empty() {
        return String::new();
    }
    let mut page = String::from(
        "<h2 id=\"repairs\">What was repaired</h2><p class=\"soft\">The first records that each pass changed, before and \
         after.</p>",
    );
    for repairs in &report.repairs {
        let count = report.passes.iter().find(|pass| pass.pass == repairs.pass).map_or(0, |pass| pass.changed);
        let _ = write!(
            page,
            "<details class=\"card\"><summary>{} <span class=\"soft\">{} {}</span></summary><div class=\"inside\">",
            escaped(&repairs.pass),
            number(count),
            if count == 1 { "record" } else { "records" },
        );
        for Change { id, place: at, before, after } in &repairs.changes {
            let [before, after] = marked(before, after);
            let _ = write!(
                page,
                "<div class=\"sample\"><p><code>{}</code> <span class=\"soft place\">{}</span></p><div class=\"pair\">\
                 <div><h4>Before</h4><div class=\"turn\" dir=\"auto\">{before}</div></div>\
                 <div><h4>After</h4><div class=\"turn assistant\" dir=\"auto\">{after}</div></div></div></div>",
                escaped(id),
                place(at),
            );
        }
        page.push_str("</div></details>");
    }
    page + "\n"
}

fn put_back(report: &CleanReport) -> String {
    if report.put_back.is_empty() {
        return String::new();
    }
    format!(
        "<h2 id=\"put-back\">Kept on request</h2><p class=\"soft\">A pass would have rejected these records.</p>{}\n",
        table(&report.put_back)
    )
}

fn every_flag(report: &CleanReport) -> String {
    every("Every flag", &report.flags)
}

fn rejections(report: &CleanReport) -> String {
    every("Every record rejected", &report.rejections)
}

fn every(title: &str, found: &[Rejection]) -> String {
    if found.is_empty() {
        return String::new();
    }
    let more = if found.len() > MAX_ROWS {
        format!("<p class=\"soft\">The first {}. The JSON report has them all.</p>", number(MAX_ROWS as u64))
    } else {
        String::new()
    };
    format!(
        "<h2>{title}</h2><details class=\"card\"><summary>All {} with their places</summary>\
         <div class=\"inside\">{more}{}</div></details>\n",
        number(found.len() as u64),
        table(found)
    )
}

fn table(rejections: &[Rejection]) -> String {
    let mut page = String::from(
        "<div class=\"scroll\"><table><tr><th scope=\"col\">Record</th><th scope=\"col\">Place</th>\
         <th scope=\"col\">Pass</th><th scope=\"col\">Reason</th></tr>",
    );
    for Rejection { id, place: at, pass, reason, others } in rejections.iter().take(MAX_ROWS) {
        let others: Vec<String> = others.iter().map(place).collect();
        let others = if others.is_empty() {
            String::new()
        } else {
            format!(" <span class=\"soft\">({})</span>", others.join(", "))
        };
        let _ = write!(
            page,
            "<tr><td><code>{}</code></td><td class=\"place\">{}</td><td>{}</td><td>{}{others}</td></tr>",
            escaped(id),
            place(at),
            escaped(pass),
            sentence(reason),
        );
    }
    page + "</table></div>"
}

fn place(place: &Place) -> String {
    let mut text = String::new();
    escape(&mut text, &place.file.display().to_string());
    let _ = write!(text, ":{}", place.line);
    text
}
