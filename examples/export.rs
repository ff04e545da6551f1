//! Writes a tuned model for other programs: merged, or as an adapter beside its base.
//!
//!     cargo run --release --example export -- --adapter runs/vakog/adapter --ollama runs/vakog/ollama
//!     cargo run --release --example export -- --adapter runs/vakog/adapter --gguf runs/vakog/adapter.gguf
//!     cargo run --release --example export -- --adapter runs/vakog/adapter --out runs/vakog/merged --dtype bf16

mod common;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use common::exporting::{Bytes, Weighted, free_file, replace_folder, show_tensors};
use common::terminal::{say, tell};
use foehn::export::{Cost, Folder, Mix, Questions, Source, save_folder, save_gguf};
use foehn::files::printable;
use foehn::weights::DType;

/// Writes a tuned model for other programs. Any of the outputs can be asked for at once.
///
/// With {name} in an output's path, every adapter is written by itself: {name} is the name of its folder, or of the folder
/// above if that is called `adapter`. Otherwise several adapters are added up, each times its weight.
#[derive(Parser)]
#[command(after_help = "Ollama then runs it with:  ollama create NAME -f DIR/Modelfile && ollama run NAME")]
struct Arguments {
    /// A folder, a .gguf file, a Hugging Face repository (org/name) or a short name
    #[arg(long, default_value = "smollm2-135m-instruct")]
    model: String,
    /// The folder of a LoRA adapter, with a weight if it is not 1: runs/a/adapter=0.5. May be given several times
    #[arg(long)]
    adapter: Vec<Weighted>,
    /// Load an adapter even if it was trained on another base, tokenizer or template
    #[arg(long)]
    allow_mismatch: bool,
    /// Another chat template than the model's own: mistral-v1 to -v13, chatml or a .jinja file. By default the one that
    /// the adapter was trained with
    #[arg(long)]
    template: Option<foehn::tokens::TemplateChoice>,

    /// Merged, for transformers and vLLM: a folder with safetensors, config, tokenizer, chat template and a card
    #[arg(long, value_name = "DIR", help_heading = "Outputs")]
    out: Option<PathBuf>,
    /// Merged, for llama.cpp and LM Studio: one GGUF file
    #[arg(long, value_name = "FILE", help_heading = "Outputs")]
    merged_gguf: Option<PathBuf>,
    /// The adapter for llama.cpp, beside its base: a small GGUF file
    #[arg(long, value_name = "FILE", help_heading = "Outputs")]
    gguf: Option<PathBuf>,
    /// The adapter for PEFT: a folder, with the base's name on the hub and a card
    #[arg(long, value_name = "DIR", help_heading = "Outputs")]
    peft: Option<PathBuf>,
    /// The adapter for mistral-inference: lora.safetensors
    #[arg(long, value_name = "DIR", help_heading = "Outputs")]
    native: Option<PathBuf>,
    /// For Ollama: a folder with a Modelfile, and the merged model or (with --from-base) the adapter as GGUF
    #[arg(long, value_name = "DIR", help_heading = "Outputs")]
    ollama: Option<PathBuf>,

    /// The type of the weights in safetensors: f32, f16 or bf16
    #[arg(long, default_value = "f32", value_parser = float)]
    dtype: DType,
    /// The largest file of safetensors, such as 5GB or 500MB
    #[arg(long, default_value = "5GB")]
    shard_size: Bytes,
    /// The type of a merged GGUF: f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q4_k, q5_k, q6_k, q4_k_m or q5_k_m
    #[arg(long = "type", default_value = "q8_0", value_name = "TYPE")]
    mix: Mix,
    /// For Ollama, leave the base as it is, and write the small adapter beside it: nothing is lost
    #[arg(long)]
    from_base: bool,
    /// The name of the base in the PEFT folder, such as org/name; by default its repository, if it came from one
    #[arg(long)]
    base_name: Option<String>,
    /// Records to measure what quantising the merged weights costs; by default those that the adapter's run held out
    #[arg(long)]
    data: Option<PathBuf>,
    /// The device on which it is measured: flex, ndarray, wgpu or cuda, if the build has it
    #[arg(long, default_value = "flex")]
    device: String,
    /// Write a quantised model even if it is significantly worse than the adapter beside its base
    #[arg(long)]
    accept_loss: bool,
    /// Replace outputs that are there
    #[arg(long)]
    overwrite: bool,
}

/// The folders of adapters, and their weights.
type Adapters = Vec<(PathBuf, f64)>;

fn float(text: &str) -> Result<DType, String> {
    match text {
        "f32" => Ok(DType::F32),
        "f16" => Ok(DType::F16),
        "bf16" => Ok(DType::BF16),
        other => Err(format!("there is no type {other:?} here: f32, f16 or bf16")),
    }
}

impl Arguments {
    fn outputs(&self) -> impl Iterator<Item = &Path> {
        let all = [&self.out, &self.merged_gguf, &self.gguf, &self.peft, &self.native, &self.ollama];
        all.into_iter().flatten().map(PathBuf::as_path)
    }

    /// The adapters of each export, and what {name} stands for.
    fn exports(&self) -> Vec<(Adapters, Option<String>)> {
        let all = || self.adapter.iter().map(|Weighted(path, weight)| (path.clone(), *weight));
        match self.outputs().any(|path| path.to_string_lossy().contains("{name}")) {
            true => all().map(|one| (vec![one.clone()], Some(common::exporting::name_of(&one.0)))).collect(),
            false => vec![(all().collect(), None)],
        }
    }

    fn check(&self) -> Result<()> {
        foehn::device(&self.device)?;
        let needs_adapter = [("--gguf", &self.gguf), ("--peft", &self.peft), ("--native", &self.native)];
        ensure!(
            self.outputs().next().is_some(),
            "say what to write: --out, --merged-gguf, --gguf, --peft, --native or --ollama"
        );
        if self.adapter.is_empty() {
            let asked = needs_adapter.iter().find(|(_, path)| path.is_some()).map(|(name, _)| *name);
            let asked = asked.or((self.ollama.is_some() && self.from_base).then_some("--from-base"));
            ensure!(asked.is_none(), "{} writes an adapter: say which with --adapter", asked.unwrap_or_default());
        }
        let inputs: Vec<PathBuf> = std::iter::once(PathBuf::from(&self.model))
            .chain(self.adapter.iter().map(|Weighted(path, _)| path.clone()))
            .chain(self.data.clone())
            .collect();
        for out in self.outputs() {
            common::exporting::check_out(out, &inputs)?;
        }
        Ok(())
    }

    fn export(&self, adapters: &[(PathBuf, f64)], name: Option<&str>) -> Result<()> {
        let template = match adapters {
            [(folder, _), ..] => common::template(self.template.as_ref(), Some(folder))?,
            [] => self.template.clone(),
        };
        let source =
            Source::open(&self.model, template.as_ref(), adapters, self.allow_mismatch, &mut common::show_loading())?;
        let place = |path: &Option<PathBuf>| {
            let named = path.as_ref().map(|path| path.to_string_lossy().replace("{name}", name.unwrap_or_default()));
            named.map(PathBuf::from)
        };
        let title = name.map_or_else(|| self.title(adapters), str::to_owned);
        if let Some(path) = place(&self.gguf) {
            free_file(&path, self.overwrite)?;
            self.adapter_gguf(&source, &path, &title)?;
            say!("wrote {} (the adapter, for llama.cpp beside its base)", path.display());
        }
        if let Some(folder) = place(&self.peft) {
            replace_folder(&folder, self.overwrite, |draft| {
                let adapter = source.adapter().context("there is no adapter")?;
                let (known, _) = source.base_name();
                adapter.save_for(draft, Some(self.base_name.as_ref().unwrap_or(&known)))?;
                source.tokenizer().save(source.template(), draft)?;
                let mut card = source.card(&title, true);
                if let Some(base) = &self.base_name {
                    (card.base, card.is_repository) = (base.clone(), true);
                }
                Ok(foehn::files::write(draft.join("README.md"), card.to_string().as_bytes())?)
            })?;
        }
        if let Some(folder) = place(&self.native) {
            replace_folder(&folder, self.overwrite, |draft| {
                let adapter = source.adapter().context("there is no adapter")?;
                Ok(adapter.save_native(draft, source.merged()?.config())?)
            })?;
        }
        if let Some(folder) = place(&self.out) {
            replace_folder(&folder, self.overwrite, |draft| {
                let content = Folder {
                    dtype: self.dtype,
                    shard_bytes: self.shard_size.0,
                    config_json: source.config_json(),
                    text: Some((source.tokenizer(), source.template())),
                    generation: source.generation_keys()?,
                    card: source.card(&title, false),
                };
                Ok(save_folder(draft, &source.merged()?, &content, &mut show_tensors("merging"))?)
            })?;
        }
        if let Some(path) = place(&self.merged_gguf) {
            free_file(&path, self.overwrite)?;
            common::exporting::replace_file(&path, |draft| self.merged_gguf(&source, adapters, draft, &title))?;
            say!("wrote {} (merged, {})", path.display(), self.mix);
        }
        if let Some(folder) = place(&self.ollama) {
            replace_folder(&folder, self.overwrite, |draft| self.ollama(&source, adapters, draft, &title))?;
            say!("run it with:  ollama create {} -f {}/Modelfile", title, folder.display());
        }
        Ok(())
    }

    /// A name for what is written: that of the first adapter, or of the base.
    fn title(&self, adapters: &[(PathBuf, f64)]) -> String {
        adapters.first().map_or_else(
            || Path::new(&self.model).file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned()),
            |(path, _)| common::exporting::name_of(path),
        )
    }

    fn adapter_gguf(&self, source: &Source, path: &Path, title: &str) -> Result<()> {
        let adapter = source.adapter().context("there is no adapter")?;
        Ok(adapter.save_gguf(path, source.merged()?.config(), &source.notes(title))?)
    }

    fn merged_gguf(&self, source: &Source, adapters: &[(PathBuf, f64)], path: &Path, title: &str) -> Result<()> {
        let (merged, notes) = (source.merged()?, source.notes(title));
        let text = Some((source.tokenizer(), source.template()));
        save_gguf(path, &merged, self.mix, text, &notes, &mut show_tensors("merging"))?;
        match source.adapter() {
            Some(adapter) if self.mix.is_quantised() => self.measure(source, adapter, adapters, path),
            _ => Ok(()),
        }
    }

    /// Compares the merged model with the attached adapter, and refuses one that is significantly worse.
    fn measure(
        &self,
        source: &Source,
        adapter: &foehn::lora::Adapter,
        adapters: &[(PathBuf, f64)],
        merged: &Path,
    ) -> Result<()> {
        let questions = match &self.data {
            Some(path) => Some(Questions::read(path)?),
            None => source.questions()?,
        };
        let Some(questions) = questions.filter(|questions| !questions.records.is_empty()) else {
            tell!(
                "note: what {} costs was not measured: the adapter's run has no held-out records; say --data FILE",
                self.mix
            );
            return Ok(());
        };
        tell!("asking both models: {}", printable(&questions.origin));
        let template = common::template(self.template.as_ref(), adapters.first().map(|(path, _)| path.as_path()))?;
        let device = foehn::device(&self.device)?;
        let mut show = common::show_loading();
        let base = foehn::mistral::Base::Stored;
        let mut base = foehn::Pretrained::load_for_text(&self.model, base, template.as_ref(), &device, &mut show)?;
        let cost = Cost::measure(&mut base, adapter, &merged.to_string_lossy(), &questions, &device, &mut show)?;
        say!("merged as {}, beside the attached adapter:\n{cost}", self.mix);
        if cost.is_significant() && !self.accept_loss {
            bail!(
                "merged as {}, the model is significantly worse than the adapter beside its base: choose a type with more \
                 bits, write the adapter instead (--gguf, or --ollama with --from-base; it loses nothing), or say \
                 --accept-loss",
                self.mix
            );
        }
        Ok(())
    }

    fn ollama(&self, source: &Source, adapters: &[(PathBuf, f64)], draft: &Path, title: &str) -> Result<()> {
        let file = if self.from_base {
            let base = std::fs::canonicalize(source.base_path())?;
            self.adapter_gguf(source, &draft.join("adapter.gguf"), title)?;
            source.modelfile(&base.to_string_lossy(), Some("./adapter.gguf"))?
        } else {
            self.merged_gguf(source, adapters, &draft.join("model.gguf"), title)?;
            source.modelfile("./model.gguf", None)?
        };
        Ok(foehn::files::write(draft.join("Modelfile"), file.to_string().as_bytes())?)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    common::run(|| {
        arguments.check()?;
        arguments.exports().iter().try_for_each(|(adapters, name)| arguments.export(adapters, name.as_deref()))
    })
}
