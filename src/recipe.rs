//! A recipe: all settings of a run in a TOML file.

use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use foehn_evaluate::DataConfig;
use foehn_finetune::TrainingConfig;
use foehn_generate::SamplingConfig;
use foehn_mistral::Base;
use foehn_tokens::TemplateChoice;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// The settings of a run: those of the model and the data, and those of the training. In the file they are on the same
/// level. Every key has a default, and an unknown key is an error.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Recipe {
    /// The base model: a folder, a `.gguf` file, a repository id or a short name.
    pub model: String,
    /// The storage format of the base's matrices: `stored`, `f32`, `bf16`, `q8_0`, `q4_k` or `nf4`.
    pub base: Base,
    /// Another chat template than the model's own: `mistral-v1`, `-v2`, `-v3`, `-v7`, `-v11`, `-v13`, `chatml` or a
    /// `.jinja` file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<TemplateChoice>,
    /// The training data: a file, or several, in any format that `foehn-corpus` supports, each with its weight.
    pub data: DataFiles,
    /// The pipeline that cleans the data: a TOML file for `foehn-corpus`. Without one, the default pipeline is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<PathBuf>,
    /// A lexicon, `{class: [words]}`. A description with words of another class than its own is rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lexicon: Option<PathBuf>,
    /// Clean records to validate on, used as they are. A record that has its group or its prompt in common with a
    /// training record, or is nearly the same, is an error. Without them, `validation.fraction` of the groups of the data is held out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_data: Option<PathBuf>,
    /// What the model is asked before and after the training.
    pub evaluation: EvaluationRecipe,
    /// How the adapter's answers are decoded: written beside the adapter as `generation_config.json`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<SamplingConfig>,
    /// The training settings.
    #[serde(flatten)]
    pub training: TrainingConfig,
}

/// What the model is asked before and after the training. Without a suite and without data, it is asked the validation
/// records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaluationRecipe {
    /// A suite.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suite: Option<PathBuf>,
    /// Records with the right answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// Where an answer has its label, as in [`LabelRule`](foehn_evaluate::LabelRule). Without it, this is inferred.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// A second suite, of general questions: how much does the model forget?
    #[serde(skip_serializing_if = "Option::is_none")]
    pub general: Option<PathBuf>,
    /// The most questions of a task that are answered in words. Likelihoods are measured for all.
    pub answers: usize,
}

impl Default for EvaluationRecipe {
    fn default() -> Self {
        Self { suite: None, data: None, label: None, general: None, answers: 32 }
    }
}

impl EvaluationRecipe {
    /// How its data is judged.
    ///
    /// # Errors
    /// An error if `label` is no rule.
    pub fn data_config(&self) -> Result<DataConfig, foehn_evaluate::LabelRuleError> {
        let rule = self.label.as_deref().map(str::parse).transpose()?;
        Ok(DataConfig { rule, ..DataConfig::default() })
    }
}

/// The files of the training data: one or more. In a recipe each is a path, or a table with a `path` and a `weight`; one
/// path, or a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "OneOrMore", into = "OneOrMore")]
pub struct DataFiles(Vec<DataFile>);

/// A file of the training data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataFile {
    /// The file.
    pub path: PathBuf,
    /// How often its records are seen in an epoch, in the mean, as in [`Part`](foehn_finetune::Part). 2 repeats them;
    /// 0.5 takes half of them, and in the next epoch the other half.
    #[serde(default = "once")]
    pub weight: f64,
}

fn once() -> f64 {
    1.0
}

impl DataFiles {
    /// The paths.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.iter().map(|file| file.path.clone()).collect()
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a path, a table with a `path` and a `weight`, or a list of these")]
enum OneOrMore {
    One(Entry),
    More(Vec<Entry>),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "expected a path, or a table with a `path` and a `weight`")]
enum Entry {
    Path(PathBuf),
    Weighted(DataFile),
}

impl From<Entry> for DataFile {
    fn from(entry: Entry) -> Self {
        match entry {
            Entry::Path(path) => Self { path, weight: once() },
            Entry::Weighted(file) => file,
        }
    }
}

impl From<OneOrMore> for DataFiles {
    fn from(files: OneOrMore) -> Self {
        match files {
            OneOrMore::One(file) => Self(vec![file.into()]),
            OneOrMore::More(files) => Self(files.into_iter().map(DataFile::from).collect()),
        }
    }
}

impl From<DataFiles> for OneOrMore {
    fn from(DataFiles(files): DataFiles) -> Self {
        let entry = |file: DataFile| if file.weight == once() { Entry::Path(file.path) } else { Entry::Weighted(file) };
        let mut entries: Vec<Entry> = files.into_iter().map(entry).collect();
        match entries.pop() {
            Some(path @ Entry::Path(_)) if entries.is_empty() => Self::One(path),
            last => Self::More(entries.into_iter().chain(last).collect()),
        }
    }
}

impl From<&str> for DataFiles {
    fn from(path: &str) -> Self {
        PathBuf::from(path).into()
    }
}

impl From<PathBuf> for DataFiles {
    fn from(path: PathBuf) -> Self {
        vec![path].into()
    }
}

impl From<Vec<PathBuf>> for DataFiles {
    fn from(paths: Vec<PathBuf>) -> Self {
        Self(paths.into_iter().map(|path| DataFile { path, weight: once() }).collect())
    }
}

impl Deref for DataFiles {
    type Target = [DataFile];

    fn deref(&self) -> &[DataFile] {
        &self.0
    }
}

/// The paths, separated by commas.
impl fmt::Display for DataFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, file) in self.iter().enumerate() {
            write!(f, "{}{}", if at > 0 { ", " } else { "" }, file.path.display())?;
        }
        Ok(())
    }
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            model: "smollm2-135m-instruct".into(),
            base: Base::default(),
            template: None,
            data: DataFiles::default(),
            pipeline: None,
            lexicon: None,
            validation_data: None,
            evaluation: EvaluationRecipe::default(),
            generation: None,
            training: TrainingConfig::default(),
        }
    }
}

/// A recipe cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeError {
    /// The file cannot be read.
    #[error("cannot read the recipe {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: std::io::Error,
    },
    /// The file cannot be parsed, or has an unknown key.
    #[error("the recipe {path} is not valid")]
    Toml {
        /// The file.
        path: PathBuf,
        /// The error, with the line.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A setting is out of its range.
    #[error("the recipe {path} cannot be run")]
    Setting {
        /// The file.
        path: PathBuf,
        /// The error of the setting.
        #[source]
        source: Box<foehn_finetune::Error>,
    },
    /// A setting of the evaluation or of the decoding cannot be used.
    #[error("the recipe {path} cannot be run: {why}")]
    Answers {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
}

impl Recipe {
    /// Reads a recipe's file.
    ///
    /// # Errors
    /// [`RecipeError`].
    pub fn load(path: &Path) -> Result<Self, RecipeError> {
        let text = foehn_files::read_to_string(path, foehn_files::MAX_TEXT)
            .map_err(|source| RecipeError::File { path: path.to_owned(), source })?;
        Self::from_toml(&text, path)
    }

    /// Reads a recipe from its text; `path` is used in errors.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_toml(text: &str, path: &Path) -> Result<Self, RecipeError> {
        let path = || path.to_owned();
        let recipe: Self =
            toml::from_str(text).map_err(|source| RecipeError::Toml { path: path(), source: Box::new(source) })?;
        let weights = recipe.data.iter().try_for_each(|file| foehn_finetune::Part::check(file.weight));
        let checked = weights.and_then(|()| recipe.training.check());
        checked.map_err(|source| RecipeError::Setting { path: path(), source: Box::new(source) })?;
        let EvaluationRecipe { suite, data, answers, .. } = &recipe.evaluation;
        let why = match &recipe.generation {
            _ if *answers == 0 => Some("`evaluation.answers` is 0, expected at least 1".to_owned()),
            _ if suite.is_some() && data.is_some() => {
                Some("`evaluation` has both a `suite` and `data`, expected one of them".to_owned())
            }
            _ if suite.is_some() && recipe.evaluation.label.is_some() => {
                Some("`evaluation.label` is for `data`; a suite says where its labels are".to_owned())
            }
            generation => {
                let sampling = generation.as_ref().and_then(|generation| generation.check().err());
                let label = recipe.evaluation.data_config().err().map(|error| error.to_string());
                sampling.map(|error| error.to_string()).or(label)
            }
        };
        if let Some(why) = why {
            return Err(RecipeError::Answers { path: path(), why });
        }
        Ok(recipe)
    }
}

impl<'de> Deserialize<'de> for Recipe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RecipeVisitor)
    }
}

struct RecipeVisitor;

impl<'de> Visitor<'de> for RecipeVisitor {
    type Value = Recipe;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a recipe's settings")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Recipe, A::Error> {
        let mut recipe = Recipe::default();
        let training = TrainingKeys { map, recipe: &mut recipe };
        recipe.training = TrainingConfig::deserialize(MapAccessDeserializer::new(training))?;
        Ok(recipe)
    }
}

/// The training keys. The recipe's own keys are removed while the file is read. Unlike `#[serde(flatten)]`, this keeps
/// the position of an error and refuses unknown keys.
struct TrainingKeys<'a, A> {
    map: A,
    recipe: &'a mut Recipe,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for TrainingKeys<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, mut seed: K) -> Result<Option<K::Value>, A::Error> {
        loop {
            let (key, unused) = match self.map.next_key_seed(Key(seed))? {
                None => return Ok(None),
                Some(Found::Training(key)) => return Ok(Some(key)),
                Some(Found::Recipe(key, seed)) => (key, seed),
            };
            seed = unused;
            match key {
                RecipeKey::Model => self.recipe.model = self.map.next_value()?,
                RecipeKey::Base => self.recipe.base = self.map.next_value()?,
                RecipeKey::Template => self.recipe.template = Some(self.map.next_value()?),
                RecipeKey::Data => self.recipe.data = self.map.next_value()?,
                RecipeKey::Pipeline => self.recipe.pipeline = self.map.next_value()?,
                RecipeKey::Lexicon => self.recipe.lexicon = self.map.next_value()?,
                RecipeKey::ValidationData => self.recipe.validation_data = self.map.next_value()?,
                RecipeKey::Evaluation => self.recipe.evaluation = self.map.next_value()?,
                RecipeKey::Generation => self.recipe.generation = self.map.next_value()?,
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

#[derive(Clone, Copy)]
enum RecipeKey {
    Model,
    Base,
    Template,
    Data,
    Pipeline,
    Lexicon,
    ValidationData,
    Evaluation,
    Generation,
}

/// Reads a key: one of the recipe's own, or one that `K` deserialises.
struct Key<K>(K);

enum Found<K, V> {
    Recipe(RecipeKey, K),
    Training(V),
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<K> {
    type Value = Found<K, K::Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let key = String::deserialize(deserializer)?;
        let own = match key.as_str() {
            "model" => RecipeKey::Model,
            "base" => RecipeKey::Base,
            "template" => RecipeKey::Template,
            "data" => RecipeKey::Data,
            "pipeline" => RecipeKey::Pipeline,
            "lexicon" => RecipeKey::Lexicon,
            "validation_data" => RecipeKey::ValidationData,
            "evaluation" => RecipeKey::Evaluation,
            "generation" => RecipeKey::Generation,
            _ => return self.0.deserialize(key.into_deserializer()).map(Found::Training),
        };
        Ok(Found::Recipe(own, self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_key_or_a_bad_value_is_named_with_its_line() {
        let check = |text: &str, expected: &str| {
            let text = format!("model = \"m\"\n{text}");
            let error = Recipe::from_toml(&text, "r.toml".as_ref()).unwrap_err();
            let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            let said = format!("{error}: {source}");
            assert!(said.contains(expected), "{text}: {said}");
            if let RecipeError::Toml { .. } = error {
                let line = text.lines().count();
                assert!(said.contains(&format!("line {line}")), "{text}: {said}");
            }
        };
        check("learning_rat = 1", "learning_rat");
        check("[lora]\nranc = 1", "ranc");
        check("[validation]\nevery = 1", "every");
        check("schedule = \"cosin\"", "cosin");
        check("loss_mean = \"sample\"", "sample");
        check("epochs = \"three\"", "epochs");
        check("epochs = 3\ndata = 7", "data");
        check("data = [\"a\", { path = \"b\", weigth = 2 }]", "`path` and a `weight`");
        check("data = [{ path = \"b\", weight = 0 }]", "data.weight");
        check("too_long = \"cut\"", "`truncate`");
        check("base = \"q9\"", "q9");
        check("template = \"llama9\"", "chatml");
        check("batch_size = 0", "batch_size");
        check("[lora]\nr = 65537", "from 1 to 65536");
        check("[evaluation]\nsuit = \"x\"", "suit");
        check("[evaluation]\nanswers = 0", "evaluation.answers");
        check("[evaluation]\nsuite = \"x\"\ndata = \"y\"", "one of them");
        check("[evaluation]\nlabel = \"first\"", "first-line");
        check("[generation]\ntop_p = 1.5", "top_p");
    }

    #[test]
    fn files_have_weights_and_are_written_as_they_were_read() {
        let check = |data: &str, expected: &[(&str, f64)]| {
            let recipe = Recipe::from_toml(&format!("data = {data}"), "r.toml".as_ref()).unwrap();
            let found: Vec<_> = recipe.data.iter().map(|file| (file.path.to_str().unwrap(), file.weight)).collect();
            assert_eq!(found, expected, "{data}");
            let written = serde_json::to_value(&recipe.data).unwrap();
            assert!(!written.is_object(), "a resumed run compares one value");
            assert_eq!(serde_json::from_value::<DataFiles>(written).unwrap(), recipe.data, "{data}");
        };
        check("\"a\"", &[("a", 1.0)]);
        check("[\"a\", \"b\"]", &[("a", 1.0), ("b", 1.0)]);
        check("[{ path = \"a\", weight = 2 }, \"b\"]", &[("a", 2.0), ("b", 1.0)]);
        check("{ path = \"a\", weight = 0.5 }", &[("a", 0.5)]);
        check("[{ path = \"a\" }]", &[("a", 1.0)]);
    }

    #[test]
    fn all_keys_are_read_wherever_they_stand() {
        let text = "epochs = 7\ndata = \"d.jsonl\"\nseed = 3\nmodel = \"m\"\npipeline = \"p.toml\"\nbase = \"nf4\"\n\
            lexicon = \"l.json\"\ntemplate = \"chatml\"\n[lora.rank_pattern]\nq_proj = 4\n\"layers.0.self_attn.q_proj\" = 2\n";
        let recipe = Recipe::from_toml(text, "r.toml".as_ref()).unwrap();
        assert_eq!((recipe.model.as_str(), recipe.base), ("m", Base::Nf4));
        assert_eq!((recipe.data.clone(), recipe.training.epochs, recipe.training.seed), ("d.jsonl".into(), 7, 3));
        assert_eq!((recipe.pipeline.clone(), recipe.lexicon.clone()), (Some("p.toml".into()), Some("l.json".into())));
        assert_eq!(recipe.template, Some(TemplateChoice::ChatMl));
        // The first matching pattern is used.
        assert_eq!(recipe.training.lora.rank("model.layers.0.self_attn.q_proj").unwrap(), 4);
        let several = Recipe::from_toml("data = [\"a.jsonl\", \"b.csv\"]", "r.toml".as_ref()).unwrap();
        assert_eq!(several.data.paths(), [PathBuf::from("a.jsonl"), "b.csv".into()]);
        assert_eq!(serde_json::to_value(&several).unwrap()["data"], serde_json::json!(["a.jsonl", "b.csv"]));
        let back = serde_json::to_value(&recipe).unwrap();
        assert_eq!(back["data"], "d.jsonl");
        assert_eq!(serde_json::from_value::<Recipe>(back).unwrap(), recipe);
        assert_eq!(Recipe::from_toml("", "r.toml".as_ref()).unwrap(), Recipe::default());
    }
}
