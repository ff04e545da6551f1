//! Cleans a file with `foehn-corpus` alone.

use std::error::Error;
use std::fs;

use foehn_corpus::{Pipeline, clean, read_clean};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::temp_dir().join(format!("foehn-consumer-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let [raw, out, report] = ["raw.jsonl", "clean.jsonl", "report.json"].map(|name| folder.join(name));
    fs::write(
        &raw,
        concat!(
            "{\"prompt\": \"Which sense is smoke?\", \"completion\": \"Olfactory\"}\n",
            "{\"prompt\": \"And a bell?\", \"completion\": \"Auditory\\nUser: And silk?\\nAssistant: Kinesthetic\"}\n",
        ),
    )?;
    let account = clean(&[raw], &out, &report, &Pipeline::default())?;
    println!("{account}");
    assert_eq!((account.kept, account.rejected), (1, 1));
    assert_eq!(read_clean(&out)?[0].messages[1].content, "Olfactory");
    fs::remove_dir_all(&folder)?;
    Ok(())
}
