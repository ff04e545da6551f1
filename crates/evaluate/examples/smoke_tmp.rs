//! Temporary.
use foehn_evaluate::*;
use foehn_generate::{GenerateConfig, Session};
use foehn_mistral::Mistral;
use foehn_tokens::{ChatTemplate, Tokenizer};
use foehn_weights::Weights;
fn main() {
    let folder = std::path::PathBuf::from(std::env::args().nth(1).unwrap());
    let config = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let weights = Weights::open(folder.join("model.safetensors")).unwrap();
    let config = Mistral::config_of(&weights, Some(&config)).unwrap();
    let model = Mistral::load(&config, &weights, &burn::tensor::Device::flex()).unwrap();
    let tokenizer = Tokenizer::open(&folder).unwrap();
    let template = ChatTemplate::open(&folder, &tokenizer).unwrap();
    let suite = Suite::open("datasets/vakog/probes/suite.toml").unwrap();
    let subject = Subject { model: &model, tokenizer: &tokenizer, template: &template };
    let prompts: Vec<String> = suite.probes()[..2].iter().map(|p| Suite::ask(&suite.questions()[0], &p.sentence)).collect();
    let s = score_labels(subject, &prompts, suite.labels(), 512, &mut |_| {}).unwrap();
    println!("{s:?}");
    let t = std::time::Instant::now();
    let s = Session::new(&model, &tokenizer, &template, GenerateConfig { max_new_tokens: 40, ..Default::default() }, 1024, vec![]);
    let mut s = s.unwrap();
    for q in ["What is the capital of France?", "And of Italy?"] {
        let t = std::time::Instant::now();
        let g = s.say(q, &mut |p| print!("{p}|")).unwrap();
        println!("\n{:?} {} tokens, {} reused of {}, {:?}", g.stop, g.output_ids.len(), s.reused(), g.input_ids.len(), t.elapsed());
    }
    println!("{:?}", t.elapsed());
    let t = std::time::Instant::now();
    let mut stages = Vec::new();
    let config = EvaluateConfig { recognition_answers: Some(25), scenes: Some(5), ..Default::default() };
    let run = evaluate("base", subject, &suite, &config, &mut |done, total| { if done == 303 { stages.push(t.elapsed()); } let _ = total; }).unwrap();
    println!("{:?} {stages:?}", t.elapsed());
    let report = Report::new(&suite, run.clone(), Some(run), 0).unwrap();
    println!("{report}");
    report.save("/tmp/report.json").unwrap();
}
