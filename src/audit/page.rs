//! An audit as one HTML page, without scripts or other files.

use foehn_evaluate::html::{Cell, count, document, folded, heat_map, heat_maps, text};

use super::{Audit, Judged};

/// Records that are open on the page, and those that are on it at all.
const OPEN: usize = 50;
const SHOWN: usize = 500;

/// A table of more labels is left out.
const MAX_LABELS: usize = 40;

/// Said wherever doubtful records are listed.
pub(super) const HARD: &str = "Hard cases that are right rank high too: look at each record, and drop none because of \
                               its rank.";

impl Audit {
    /// One HTML page for whoever decides: the doubtful records, the most doubtful first, with line, text, given label and
    /// the one that the model prefers; and how often each given label has each preferred one.
    pub fn page(&self) -> String {
        let open: Vec<&Judged> = self.open().collect();
        let against = open.iter().filter(|judged| judged.doubt > 0.0).count();
        let (kept, data) = (self.judged.len() - open.len(), self.data.display().to_string());
        let left_out = [
            (kept, "kept after a look"),
            (self.without_label, "without a label"),
            (self.unreadable, "that cannot be read"),
        ];
        let left_out = left_out.iter().filter(|(number, _)| *number > 0);
        let left_out: String = left_out.map(|(number, why)| format!(" {} {why}.", count(*number, "record"))).collect();
        let body = format!(
            "<header><p class=\"eyebrow\">Labels of {data}</p><h1>For {against} of {}, the model prefers another \
             label</h1><p><b>{HARD}</b></p><p class=\"soft\">Each was judged by <code>{}</code> with an adapter that \
             was trained on the other folds ({} in all), so on no record of its group.{left_out}</p></header>\n\
             <main>\n{}{}</main>\n",
            count(open.len(), "record"),
            text(&self.model),
            self.folds,
            self.confusions(),
            self.list(&open),
            data = text(&data),
        );
        document(&format!("Labels of {data}"), &body)
    }

    fn confusions(&self) -> String {
        let of_task = |(at, task): (usize, &super::AuditedTask)| {
            if task.labels.len() > MAX_LABELS {
                return String::new();
            }
            let cells = |row: Vec<usize>| -> Vec<Cell> {
                let whole = row.iter().sum::<usize>().max(1) as f64;
                row.iter().map(|count| (*count as f64 / whole, count.to_string())).collect()
            };
            let rows = self.confusion(at).into_iter().map(cells).collect();
            let names: Vec<&str> = task.labels.iter().map(String::as_str).collect();
            heat_maps(&names, vec![heat_map(&task.name, ["given", "preferred"], &task.labels, &names, rows)])
        };
        let maps: String = self.tasks.iter().enumerate().map(of_task).collect();
        format!(
            "<section aria-labelledby=\"summary\"><h2 id=\"summary\">Given and preferred labels</h2><p \
             class=\"soft\">Rows are the labels in the data, columns the most likely ones; on the diagonal they \
             agree.</p>{maps}</section>\n"
        )
    }

    fn list(&self, open: &[&Judged]) -> String {
        let (first, rest) = open.split_at(open.len().min(OPEN));
        let entry = |(rank, judged): (usize, &&Judged)| self.entry(rank + 1, judged);
        let shown: String = first.iter().enumerate().map(entry).collect();
        let more: String = rest.iter().take(SHOWN - OPEN).enumerate().map(|(at, of)| entry((at + OPEN, of))).collect();
        let left = open.len().saturating_sub(SHOWN);
        let left = match left {
            0 => String::new(),
            left => format!("<p class=\"soft\">{left} more, less doubtful, are in the JSON file.</p>"),
        };
        let more = match rest.len() {
            0 => String::new(),
            rest => format!("<details><summary>{rest} more</summary>{more}{left}</details>"),
        };
        format!(
            "<section aria-labelledby=\"list\"><h2 id=\"list\">The records, the most doubtful first</h2>{shown}{more}\
             </section>\n"
        )
    }

    fn entry(&self, rank: usize, judged: &Judged) -> String {
        let task = &self.tasks[judged.task];
        let sign = if judged.doubt > 0.0 { "the model prefers another label" } else { "the model agrees" };
        let id = judged.id.as_ref().map_or_else(String::new, |id| format!("<code>{}</code> ", text(id)));
        let kind = if self.tasks.len() > 1 { format!(" · {}", text(&task.name)) } else { String::new() };
        let said = |label: &str| {
            format!("<b>{}</b> <small>{:.1}%</small>", text(label), 100.0 * self.probability(judged, label))
        };
        let answer = match judged.answer.trim() == judged.given {
            true => String::new(),
            false => format!("<dt>Answer</dt><dd dir=\"auto\">{}</dd>", folded(&judged.answer)),
        };
        format!(
            "<article class=\"sample\"><p><b>{rank}.</b> {id}<small class=\"place\">line \
             {}{kind} · {sign}</small></p><div class=\"turn\" dir=\"auto\">{}</div><dl class=\"facts\"><dt>Given</dt>\
             <dd>{}</dd><dt>Other</dt><dd>{}</dd>{answer}</dl></article>",
            judged.line,
            folded(&judged.question),
            said(&judged.given),
            said(&judged.other),
        )
    }

    /// The probability of a label of a record's task, among all labels.
    pub fn probability(&self, judged: &Judged, label: &str) -> f64 {
        let labels = self.tasks.get(judged.task).map_or(&[][..], |task| task.labels.as_slice());
        let place = labels.iter().position(|other| other == label);
        place.and_then(|place| judged.log_probabilities.get(place)).map_or(0.0, |log| log.exp())
    }
}

#[cfg(test)]
mod tests {
    use super::super::AuditedTask;
    use super::*;

    fn judged(line: u64, [given, other]: [&str; 2], doubt: f64) -> Judged {
        Judged {
            line,
            id: None,
            task: 0,
            fold: 0,
            given: given.to_owned(),
            other: other.to_owned(),
            doubt,
            log_probabilities: vec![-0.5, -1.0],
            question: format!("<script>{line}</script>\u{1b}[2J"),
            answer: given.to_owned(),
            fingerprint: line.to_string(),
            is_kept: false,
        }
    }

    fn audit() -> Audit {
        Audit {
            foehn: String::new(),
            model: "m".to_owned(),
            data: "a&b.jsonl".into(),
            data_sha256: String::new(),
            folds: 2,
            seed: 0,
            tasks: vec![AuditedTask { name: "t".into(), rule: "whole".into(), labels: vec!["x".into(), "y".into()] }],
            without_label: 3,
            unreadable: 0,
            judged: vec![judged(7, ["x", "y"], 2.0), judged(9, ["y", "x"], -1.0), judged(4, ["y", "x"], -3.0)],
        }
    }

    #[test]
    fn the_page_lists_by_doubt_and_escapes() {
        let mut audit = audit();
        let page = audit.page();
        let place = |part: &str| page.find(part).unwrap_or_else(|| panic!("no {part}: {page}"));
        assert!(place("line 7") < place("line 9") && place("line 9") < place("line 4"));
        assert!(page.contains(HARD) && page.contains("3 records without a label") && page.contains("a&amp;b"));
        assert!(!page.contains("<script") && !page.contains('\u{1b}'));
        assert!(page.contains("For 1 of 3 records"), "{page}");
        assert_eq!(audit.confusion(0), [[0, 1], [0, 2]]);
        audit.judged[0].is_kept = true;
        let page = audit.page();
        assert!(!page.contains("line 7") && page.contains("1 record kept after a look"));
    }

    #[test]
    fn known_errors_are_counted() {
        let audit = audit();
        let found = audit.find(&["7".to_owned()]).unwrap();
        assert_eq!((found.known, found.judged, found.looked_at, found.auroc, found.contradicted), (1, 3, 0, 1.0, 1));
        assert!(audit.find(&["8".to_owned()]).is_err());
    }
}
