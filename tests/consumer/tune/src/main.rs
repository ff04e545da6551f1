//! Loads a model, trains an adapter for three steps, and generates.

use std::{error::Error, ops::ControlFlow};

use foehn::Pretrained;
use foehn::corpus::{Message, Record, Role};
use foehn::finetune::{Dataset, Event, Folder, Recipe, Run, train};
use foehn::generate::{GenerateConfig, generate};
use foehn::mistral::Base;

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args().nth(1).unwrap_or_else(|| "smollm2-135m-instruct".into());
    let mut base = Pretrained::load(&model, Base::Stored, &foehn::device("flex")?, &mut |_| ())?;
    let question = Message::new(Role::User, "Which sense is a bell?");
    let messages = vec![question.clone(), Message::new(Role::Assistant, "Auditory")];
    let record = Record { id: None, messages, group: None, metadata: Default::default() };
    let data = Dataset::new(&[record], &base.template, &base.tokenizer, base.model.config(), 0)?;

    let recipe = Recipe { epochs: 3, batch_size: 1, checkpoint_steps: 0, learning_rate: 5e-3, ..Recipe::default() };
    let out = std::env::temp_dir().join(format!("foehn-consumer-{}", std::process::id()));
    let manifest = base.manifest(String::new(), &mut |_| ())?;
    let run = Run { recipe: &recipe, training: &data, validation: None, manifest, out: Folder::begin(&out)? };
    let outcome = train(&mut base.model, run, &mut |event| {
        if let Event::Step(metrics) = event {
            println!("step {}: loss {:.4}", metrics.step, metrics.loss);
        }
        ControlFlow::Continue(())
    })?;
    assert_eq!(outcome.steps, 3);

    let prompt = base.template.prompt(&base.tokenizer, &[question])?;
    let config = GenerateConfig { max_new_tokens: 16, ..GenerateConfig::default() };
    let answers = generate(&base.model, &base.tokenizer, &[prompt], &config, &mut |_, _| ())?;
    println!("{}", answers[0].text);
    std::fs::remove_dir_all(&out)?;
    Ok(())
}
