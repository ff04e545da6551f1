//! Prints the ids of texts, for comparison with other programs, and how fast it was.
//!
//!     cargo run --release -p foehn-tokens --example ids -- MODEL < texts.jsonl
//!
//! Each line of the input is a JSON string, each line of the output a JSON array. MODEL is what `Tokenizer::open` takes. The
//! last line, on standard error, has the seconds of the fastest of three passes over all texts.

use std::io::{BufWriter, Write, stdin, stdout};
use std::time::{Duration, Instant};

use foehn_tokens::Tokenizer;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = std::env::args().nth(1).ok_or("the first argument is a tokenizer's folder or file")?;
    let tokenizer = Tokenizer::open(model)?;
    let texts = stdin().lines().map(|line| Ok(serde_json::from_str(&line?)?));
    let texts: Vec<String> = texts.collect::<Result<_, Box<dyn std::error::Error>>>()?;
    let (mut ids, mut fastest) = (Vec::new(), Duration::MAX);
    for _ in 0..3 {
        let start = Instant::now();
        ids = texts.iter().map(|text| tokenizer.encode_text(text)).collect::<Result<Vec<_>, _>>()?;
        fastest = fastest.min(start.elapsed());
    }
    let mut out = BufWriter::new(stdout().lock());
    for ids in &ids {
        serde_json::to_writer(&mut out, ids)?;
        writeln!(out)?;
    }
    out.flush()?;
    eprintln!("{}", fastest.as_secs_f64());
    Ok(())
}
