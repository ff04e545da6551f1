//! A report as an HTML page.
impl crate::Report {
    /// The report as one page that opens offline.
    pub fn page(&self) -> String {
        html()
    }
}
fn html() -> String {
    String::new()
}
