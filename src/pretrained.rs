//! Loads a model by name, with its tokenizer and chat template.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use burn::tensor::Device;
use foehn_finetune::Dataset;
use foehn_generate::{GenerateConfig, Generation, Session, SessionConfig, generate};
use foehn_hub::{Hub, Progress};
use foehn_lora::{Adapter, Manifest};
use foehn_mistral::{Base, Mistral, MistralConfig};
use foehn_record::{Conversation, Message, Record};
use foehn_tokens::{ChatTemplate, TemplateChoice, Tokenizer};
use foehn_weights::Weights;
use sha2::{Digest, Sha256};

use crate::{AdapterNote, LoadError, Loading};

/// A base model on a device, with its tokenizer and its chat template.
#[derive(Debug)]
pub struct Pretrained {
    /// The name that the user gave.
    pub name: String,
    /// The network.
    pub model: Mistral,
    /// The tokenizer.
    pub tokenizer: Arc<Tokenizer>,
    /// The chat template.
    pub template: Arc<ChatTemplate>,
    checkpoint: Checkpoint,
}

/// The file of a model, and its hash once it has been computed.
#[derive(Debug)]
struct Checkpoint {
    weights: Weights,
    sha256: OnceLock<String>,
}

impl Checkpoint {
    fn sha256(&self, progress: &mut dyn FnMut(Loading<'_>)) -> Result<&str, LoadError> {
        if let Some(sha256) = self.sha256.get() {
            return Ok(sha256);
        }
        let sha256 = hash_of(&self.weights, progress)?;
        Ok(self.sha256.get_or_init(|| sha256))
    }
}

/// A network without tokenizer and template.
#[derive(Debug)]
pub struct Network {
    /// The network.
    pub model: Mistral,
    checkpoint: Checkpoint,
    files: foehn_hub::ModelFiles,
}

impl Network {
    /// Finds a model's files (for the possible names see [`Hub::resolve`]) and loads the weights onto a device, in the
    /// storage format `base`.
    ///
    /// # Errors
    /// [`LoadError`], which names the file and the place.
    pub fn load(
        name: &str,
        base: Base,
        device: &Device,
        progress: &mut dyn FnMut(Loading<'_>),
    ) -> Result<Self, LoadError> {
        let files = Hub::from_env().resolve(name, &mut |event| progress(Loading::Files(event)))?;
        let weights = Weights::open(&files.weights)?;
        let (config, _) = config(&files, &weights)?;
        let failed = |source| LoadError::Model { path: files.weights.clone(), source };
        let mut told = |done, total| progress(Loading::Weights { done, total });
        let model = Mistral::load_as(&config, &weights, base, device, &mut told).map_err(failed)?;
        Ok(Self { model, checkpoint: Checkpoint { weights, sha256: OnceLock::new() }, files })
    }

    /// Attaches an adapter for inference. An adapter that was trained on another base is refused, unless
    /// `allow_mismatch` is set.
    ///
    /// # Errors
    /// [`LoadError::Adapter`].
    pub fn attach(
        &mut self,
        folder: &Path,
        allow_mismatch: bool,
        progress: &mut dyn FnMut(Loading<'_>),
    ) -> Result<Adapter, LoadError> {
        attach(&mut self.model, folder, allow_mismatch, &self.checkpoint, ["", ""], progress)
    }
}

impl Pretrained {
    /// Loads a model with its tokenizer and its chat template, with the weights in their stored format. For the
    /// possible names see [`Hub::resolve`].
    ///
    /// # Errors
    /// [`LoadError`], which names the file and the place.
    pub fn load(name: &str, device: &Device) -> Result<Self, LoadError> {
        Self::load_as(name, Base::Stored, device, &mut |_| ())
    }

    /// As [`load`](Self::load), with the weights in the storage format `base`.
    ///
    /// # Errors
    /// [`LoadError`], which names the file and the place.
    pub fn load_as(
        name: &str,
        base: Base,
        device: &Device,
        progress: &mut dyn FnMut(Loading<'_>),
    ) -> Result<Self, LoadError> {
        Self::load_with(name, base, None, device, progress)
    }

    /// As [`load_as`](Self::load_as), with another chat template than the model's own, which it need not have.
    ///
    /// # Errors
    /// [`LoadError`], which names the file and the place.
    pub fn load_with(
        name: &str,
        base: Base,
        template: Option<&TemplateChoice>,
        device: &Device,
        progress: &mut dyn FnMut(Loading<'_>),
    ) -> Result<Self, LoadError> {
        Self::load_any(name, base, template, false, device, progress)
    }

    /// As [`load_with`](Self::load_with), for plain text: a model without a chat template gets one that refuses every
    /// conversation.
    ///
    /// # Errors
    /// [`LoadError`], which names the file and the place.
    pub fn load_for_text(
        name: &str,
        base: Base,
        template: Option<&TemplateChoice>,
        device: &Device,
        progress: &mut dyn FnMut(Loading<'_>),
    ) -> Result<Self, LoadError> {
        Self::load_any(name, base, template, true, device, progress)
    }

    fn load_any(
        name: &str,
        base: Base,
        template: Option<&TemplateChoice>,
        is_text: bool,
        device: &Device,
        progress: &mut dyn FnMut(Loading<'_>),
    ) -> Result<Self, LoadError> {
        let Network { model, checkpoint, files } = Network::load(name, base, device, progress)?;
        let (tokenizer, template) = text_side(&files, template, is_text)?;
        let (tokens, vocab_size) = (tokenizer.vocab_size(), model.config().vocab_size);
        // A control token without an embedding, such as an added pad token, is never computed. Text tokens must have
        // one.
        if (vocab_size..tokens).any(|id| !u32::try_from(id).is_ok_and(|id| tokenizer.is_control(id))) {
            return Err(LoadError::Vocabulary { path: text_path(&files), tokens, vocab_size });
        }
        Ok(Self { name: name.to_owned(), model, tokenizer: tokenizer.into(), template: template.into(), checkpoint })
    }

    /// Turns records into training samples, none of them longer than the model's context.
    ///
    /// # Errors
    /// As [`Dataset::new`].
    pub fn dataset(&self, records: &[Record]) -> Result<Dataset, foehn_finetune::Error> {
        Dataset::new(records, &self.template, &self.tokenizer, self.model.config(), 0)
    }

    /// The answer to a conversation's last message.
    ///
    /// # Errors
    /// Those of [`generate`], and an error if the template refuses the conversation.
    pub fn ask<'a>(
        &self,
        conversation: impl Into<Conversation<'a>>,
        config: &GenerateConfig,
    ) -> Result<Generation, foehn_generate::Error> {
        let prompt = self.template.prompt(&self.tokenizer, conversation)?;
        let answers = generate(&self.model, &self.tokenizer, &[prompt], config)?;
        Ok(answers.into_iter().next().expect("one prompt gives one generation"))
    }

    /// A conversation with the model as it is now, that begins with `messages`.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn session(&self, config: SessionConfig, messages: Vec<Message>) -> Result<Session, foehn_generate::Error> {
        let (tokenizer, template) = (Arc::clone(&self.tokenizer), Arc::clone(&self.template));
        Session::new(self.model.clone(), tokenizer, template, config, messages)
    }

    /// Attaches an adapter for inference. An adapter that was trained on another base, tokenizer or template is
    /// refused.
    ///
    /// # Errors
    /// [`LoadError::Adapter`].
    pub fn attach(&mut self, folder: impl AsRef<Path>) -> Result<Adapter, LoadError> {
        self.attach_as(folder.as_ref(), false, &mut |_| ())
    }

    /// As [`attach`](Self::attach). With `allow_mismatch`, an adapter from another base, tokenizer or template is
    /// accepted.
    ///
    /// # Errors
    /// [`LoadError::Adapter`].
    pub fn attach_as(
        &mut self,
        folder: &Path,
        allow_mismatch: bool,
        progress: &mut dyn FnMut(Loading<'_>),
    ) -> Result<Adapter, LoadError> {
        let (model, adapter) = self.adapted(folder, allow_mismatch, progress)?;
        self.model = model;
        Ok(adapter)
    }

    /// The model with an adapter, beside this one, with which it shares its weights; and the adapter. With `allow_mismatch`, an
    /// adapter from another base, tokenizer or template is accepted.
    ///
    /// # Errors
    /// [`LoadError::Adapter`].
    pub fn adapted(
        &self,
        folder: &Path,
        allow_mismatch: bool,
        progress: &mut dyn FnMut(Loading<'_>),
    ) -> Result<(Mistral, Adapter), LoadError> {
        let template = self.template.fingerprint();
        let hashes = [self.tokenizer.fingerprint(), &template];
        self.notes_on_text(folder).into_iter().for_each(|note| progress(Loading::Adapter(note)));
        let mut model = self.model.clone();
        let adapter = attach(&mut model, folder, allow_mismatch, &self.checkpoint, hashes, progress)?;
        Ok((model, adapter))
    }

    /// Whether an adapter's folder has a different tokenizer or template. One that cannot be read counts as different.
    fn notes_on_text(&self, folder: &Path) -> Vec<AdapterNote> {
        let has = |name: &str| folder.join(name).exists();
        let holds_one = has("tokenizer.json") || has("tekken.json");
        let own = if holds_one { Some(Tokenizer::open(folder)) } else { None };
        let is_other = own.is_some_and(|own| own.map_or(true, |own| own.fingerprint() != self.tokenizer.fingerprint()));
        let place = match has("chat_template.jinja") {
            true => folder.join("chat_template.jinja"),
            false => folder.to_owned(),
        };
        let template = match ChatTemplate::open(&place, &self.tokenizer) {
            Ok(own) => own.fingerprint() != self.template.fingerprint(),
            Err(_) => has("chat_template.jinja"),
        };
        let notes = [(is_other, AdapterNote::OtherTokenizer), (template, AdapterNote::OtherTemplate)];
        notes.into_iter().filter_map(|(is, note)| is.then_some(note)).collect()
    }

    /// The manifest for an adapter trained on this model: the hashes of its weights, its tokenizer and its template.
    ///
    /// # Errors
    /// [`LoadError::Weights`] if the checkpoint can no longer be read.
    pub fn manifest(&self) -> Result<Manifest, LoadError> {
        self.manifest_with(&mut |_| ())
    }

    /// As [`manifest`](Self::manifest), with progress: hashing a large checkpoint takes seconds.
    ///
    /// # Errors
    /// As [`manifest`](Self::manifest).
    pub fn manifest_with(&self, progress: &mut dyn FnMut(Loading<'_>)) -> Result<Manifest, LoadError> {
        Ok(Manifest {
            foehn: env!("CARGO_PKG_VERSION").into(),
            base_name: self.name.clone(),
            base_sha256: self.checkpoint.sha256(progress)?.to_owned(),
            tokenizer_sha256: self.tokenizer.fingerprint().to_owned(),
            template_sha256: self.template.fingerprint(),
            ..Manifest::default()
        })
    }
}

/// The template of a model that has none, where only plain text is read.
const NO_TEMPLATE: &str =
    "{{ raise_exception('the model has no chat template: choose one for conversations, or use plain text alone') }}";

/// A model's tokenizer and chat template, its own or another one, without its weights.
///
/// # Errors
/// [`LoadError`], which names the file and the place.
pub fn load_text(
    name: &str,
    template: Option<&TemplateChoice>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(Tokenizer, ChatTemplate), LoadError> {
    text_side(&Hub::from_env().resolve(name, progress)?, template, false)
}

/// As [`load_text`], for plain text: a model without a chat template gets one that refuses every conversation.
///
/// # Errors
/// [`LoadError`], which names the file and the place.
pub fn load_text_for_text(
    name: &str,
    template: Option<&TemplateChoice>,
    progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(Tokenizer, ChatTemplate), LoadError> {
    text_side(&Hub::from_env().resolve(name, progress)?, template, true)
}

/// The template that an adapter of this folder was trained with, if its manifest names one besides the base's own.
///
/// # Errors
/// [`LoadError::Adapter`] if the manifest cannot be read, or names a template that is not known.
pub fn template_of_adapter(folder: &Path) -> Result<Option<TemplateChoice>, LoadError> {
    let failed = |source| LoadError::Adapter { path: folder.to_owned(), source: Box::new(source) };
    let manifest = Manifest::of_folder(folder).map_err(failed)?;
    let named = manifest.as_ref().and_then(|manifest| manifest.recipe.get("template")).and_then(|name| name.as_str());
    let unknown = |name| LoadError::AdapterTemplate { path: folder.to_owned(), name };
    named.map(|name| name.parse().map_err(|_| unknown(name.to_owned()))).transpose()
}

/// SHA-256 of a file's bytes, in lower-case hexadecimal.
///
/// # Errors
/// [`LoadError::File`].
pub fn sha256_of_file(path: &Path) -> Result<String, LoadError> {
    let failed = |source| LoadError::File { path: path.to_owned(), source };
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match std::io::Read::read(&mut file, &mut buffer).map_err(failed)? {
            0 => return Ok(hexadecimal(&hasher.finalize())),
            read => hasher.update(&buffer[..read]),
        }
    }
}

/// What belongs to a model besides its weights. Of their file the header alone is read.
#[derive(Debug)]
pub(crate) struct Side {
    pub config: MistralConfig,
    /// The text of its `config.json`, if it has one.
    pub config_json: Option<String>,
    pub weights: Weights,
    pub tokenizer: Tokenizer,
    pub template: ChatTemplate,
}

impl Side {
    /// With `is_text`, the model need not have a template.
    pub fn open(
        name: &str,
        template: Option<&TemplateChoice>,
        is_text: bool,
        progress: &mut dyn FnMut(Loading<'_>),
    ) -> Result<Self, LoadError> {
        let files = Hub::from_env().resolve(name, &mut |event| progress(Loading::Files(event)))?;
        let weights = Weights::open(&files.weights)?;
        let (config, config_json) = config(&files, &weights)?;
        let (tokenizer, template) = text_side(&files, template, is_text)?;
        Ok(Self { config, config_json, weights, tokenizer, template })
    }

    /// Reads an adapter and checks that it belongs to this model, as [`Pretrained::attach_as`] does.
    pub fn adapter(
        &self,
        folder: &Path,
        allow_mismatch: bool,
        progress: &mut dyn FnMut(Loading<'_>),
    ) -> Result<Adapter, LoadError> {
        let template = self.template.fingerprint();
        let hash = |progress: &mut dyn FnMut(Loading<'_>)| hash_of(&self.weights, progress);
        checked_adapter(folder, allow_mismatch, hash, [self.tokenizer.fingerprint(), &template], progress)
    }
}

fn text_side(
    files: &foehn_hub::ModelFiles,
    template: Option<&TemplateChoice>,
    is_text: bool,
) -> Result<(Tokenizer, ChatTemplate), LoadError> {
    let path = text_path(files);
    let mut tokenizer = Tokenizer::open(&path)?;
    if let Some(choice) = template {
        let template = choice.open(&mut tokenizer)?;
        return Ok((tokenizer, template));
    }
    let place = files.tokenizer_config.as_deref().and_then(Path::parent).unwrap_or(&path);
    let template = match ChatTemplate::open(place, &tokenizer) {
        Err(foehn_tokens::Error::NoTemplate { .. }) if is_text => ChatTemplate::jinja(NO_TEMPLATE, &tokenizer)?,
        opened => opened?,
    };
    Ok((tokenizer, template))
}

fn text_path(files: &foehn_hub::ModelFiles) -> PathBuf {
    files.tokenizer.clone().unwrap_or_else(|| files.weights.clone())
}

fn config(files: &foehn_hub::ModelFiles, weights: &Weights) -> Result<(MistralConfig, Option<String>), LoadError> {
    let read = |path: &Path| {
        foehn_files::read_to_string(path, foehn_files::MAX_TEXT)
            .map_err(|source| LoadError::File { path: path.to_owned(), source })
    };
    let text = files.config.as_deref().map(read).transpose()?;
    let path = files.config.clone().unwrap_or_else(|| files.weights.clone());
    let config = Mistral::config_of(weights, text.as_deref()).map_err(|source| LoadError::Model { path, source })?;
    Ok((config, text))
}

fn attach(
    model: &mut Mistral,
    folder: &Path,
    allow_mismatch: bool,
    checkpoint: &Checkpoint,
    [tokenizer, template]: [&str; 2],
    progress: &mut dyn FnMut(Loading<'_>),
) -> Result<Adapter, LoadError> {
    let hash = |progress: &mut dyn FnMut(Loading<'_>)| checkpoint.sha256(progress).map(str::to_owned);
    let adapter = checked_adapter(folder, allow_mismatch, hash, [tokenizer, template], progress)?;
    foehn_lora::attach(model, &adapter)
        .map_err(|source| LoadError::Adapter { path: folder.to_owned(), source: Box::new(source) })?;
    Ok(adapter)
}

/// Reads an adapter and compares the hashes in its manifest with those of a model. That of the weights is computed if the
/// manifest has one.
fn checked_adapter(
    folder: &Path,
    allow_mismatch: bool,
    base_sha256: impl FnOnce(&mut dyn FnMut(Loading<'_>)) -> Result<String, LoadError>,
    [tokenizer, template]: [&str; 2],
    progress: &mut dyn FnMut(Loading<'_>),
) -> Result<Adapter, LoadError> {
    let failed = |source| LoadError::Adapter { path: folder.to_owned(), source: Box::new(source) };
    let adapter = Adapter::load(folder).map_err(failed)?;
    let not_checked = match &adapter.manifest {
        _ if allow_mismatch => Vec::new(),
        Some(manifest) => manifest.check(&base_sha256(progress)?, tokenizer, template).map_err(failed)?,
        None => vec!["base", "tokenizer", "template"],
    };
    if !not_checked.is_empty() {
        progress(Loading::Adapter(AdapterNote::NotChecked(not_checked)));
    }
    if adapter.is_zero() {
        progress(Loading::Adapter(AdapterNote::ChangesNothing));
    }
    Ok(adapter)
}

/// Hashes the names, shapes and bytes of all tensors. The hash is the same for one file and for shards with the same
/// tensors.
fn hash_of(weights: &Weights, progress: &mut dyn FnMut(Loading<'_>)) -> Result<String, LoadError> {
    let len = |name| weights.bytes(name).map(|bytes| bytes.len() as u64);
    let total = weights.names().map(len).sum::<Result<u64, _>>()?;
    let (mut hasher, mut done) = (Sha256::new(), 0);
    for name in weights.names() {
        let info = weights.info(name).map(|info| format!("{name} {:?} {}\n", info.shape, info.dtype.name()));
        hasher.update(info.unwrap_or_default());
        hasher.update(weights.read(name)?);
        done += len(name)?;
        progress(Loading::Hash { done, total });
    }
    Ok(hexadecimal(&hasher.finalize()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
