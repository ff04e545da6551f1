//! The parts of a page that stands alone: for narrow and wide screens, light and dark mode and paper, without scripts or
//! other files.

const STYLE: &str = include_str!("page/style.css");

/// A longer text is folded.
const FOLDED: usize = 320;

/// A cell of a [`heat_map`]: its share of its row, and what stands in it.
pub type Cell = (f64, String);

/// A whole page. The title is a plain text; the body is markup, in which [`text`] has escaped what comes from files.
pub fn document(title: &str, body: &str) -> String {
    // The content security policy forbids everything that is not in the page, in case a text is ever not escaped.
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{body}\
         <footer><p class=\"soft\">Made by Foehn {}. This page holds all that it shows, and can be sent as it \
         is.</p>\
         </footer>\n</body>\n</html>\n",
        text(title),
        env!("CARGO_PKG_VERSION"),
    )
}

/// A text out of a file: escaped, and its control characters visible.
pub fn text(text: &str) -> String {
    html_escape::encode_quoted_attribute(&foehn_files::printable_text(text).to_string()).into_owned()
}

/// The same; a long one is folded after its first words.
pub fn folded(long: &str) -> String {
    if long.chars().count() <= FOLDED {
        return text(long);
    }
    let start = crate::table::cut(&crate::table::one_line(long), FOLDED / 2);
    format!("<details><summary>{}</summary>{}</details>", text(&start), text(long))
}

/// A number of things.
pub fn count(number: usize, name: &str) -> String {
    format!("{number} {name}{}", if number == 1 { "" } else { "s" })
}

/// The start of a box (`</div>` ends it) that scrolls what is too wide, by keyboard too; `name` is already escaped.
pub fn scroll(name: &str) -> String {
    format!("<div class=\"card scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{name}\">")
}

/// A table whose cells have the more colour the larger their share of the row. `labels` name the rows, `names` the
/// columns; `rows` and `columns` say what the two are.
pub fn heat_map(
    title: &str,
    [rows, columns]: [&str; 2],
    labels: &[String],
    names: &[&str],
    cells: Vec<Vec<Cell>>,
) -> String {
    let head: String = names.iter().map(|name| format!("<th scope=\"col\"><span>{}</span></th>", text(name))).collect();
    let cell = |(at, row): (usize, &Vec<Cell>)| -> String {
        let cell = |(column, (share, shown)): (usize, &Cell)| {
            let class = if column == at { " class=\"hit\"" } else { "" };
            format!("<td{class} style=\"--share:{:.3}\">{shown}</td>", share.clamp(0.0, 1.0))
        };
        row.iter().enumerate().map(cell).collect()
    };
    let lines = labels.iter().zip(cells.iter().enumerate());
    let lines = lines.map(|(label, row)| format!("<tr><th scope=\"row\">{}</th>{}</tr>", text(label), cell(row)));
    let lines: String = lines.collect();
    format!(
        "{}<table class=\"heat\"><caption>{}</caption><thead><tr><th><small>{rows} \
         ↓<br>{columns} →</small></th>{head}</tr>\
         </thead><tbody>{lines}</tbody></table></div>",
        scroll(&text(title)),
        text(title),
    )
}

/// [`heat_map`]s side by side; `names` are the columns of the widest one. On a wide screen, as many stand in a row as have
/// room for their labels.
pub fn heat_maps(names: &[&str], maps: Vec<String>) -> String {
    let longest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).clamp(4, 9);
    let width = 5.2 + names.len() as f64 * (1.3 + 0.42 * longest as f64);
    format!("<div class=\"grid heats\" style=\"--width:{width:.1}rem\">{}</div>", maps.concat())
}
