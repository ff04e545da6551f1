//! baseline
use std::path::PathBuf;
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let pipeline = if args[0] == "-" { foehn_corpus::Pipeline::default() } else { foehn_corpus::Pipeline::load(args[0].as_ref())? };
    let inputs: Vec<PathBuf> = args[3..].iter().map(PathBuf::from).collect();
    foehn_corpus::clean(&inputs, args[1].as_ref(), args[2].as_ref(), &pipeline)?;
    Ok(())
}
