//! Loads a model, trains an adapter for three steps, and generates.

use std::{error::Error, ops::ControlFlow};

use foehn::Pretrained;
use foehn::finetune::{Event, Folder, Run, TrainingConfig, train};
use foehn::generate::GenerateConfig;
use foehn::record::{Message, Record};

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args().nth(1).unwrap_or_else(|| "smollm2-135m-instruct".into());
    let mut base = Pretrained::load(&model, &foehn::device("flex")?)?;
    let question = "Which sense is a bell?";
    let training = base.dataset(&[Record::pair(question, "Auditory")])?;

    let config = TrainingConfig { batch_size: 1, learning_rate: 5e-3, ..TrainingConfig::default() };
    let out = std::env::temp_dir().join(format!("foehn-consumer-{}", std::process::id()));
    let manifest = base.manifest()?;
    let run = Run { config: &config, training: &training, validation: None, manifest, out: Folder::begin(&out)? };
    let outcome = train(&mut base.model, run, &mut |event| {
        if let Event::Step(metrics) = event {
            println!("step {}: loss {:.4}", metrics.step, metrics.loss);
        }
        ControlFlow::Continue(())
    })?;
    assert_eq!(outcome.steps, 3);

    let config = GenerateConfig { max_new_tokens: 16, ..GenerateConfig::default() };
    println!("{}", base.ask(&[Message::user(question)], &config)?.text);
    std::fs::remove_dir_all(&out)?;
    Ok(())
}
