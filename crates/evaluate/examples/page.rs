//! The HTML page of a report that was saved as JSON: `page REPORT.json PAGE.html`.

use foehn_evaluate::Report;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(report), Some(page)) = (arguments.next(), arguments.next()) else {
        return Err("two paths are needed: that of a report, and that of its page".into());
    };
    let report: Report = serde_json::from_slice(&std::fs::read(report)?)?;
    foehn_files::write(page, report.page().as_bytes())?;
    Ok(())
}
