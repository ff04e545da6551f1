//! Whether base, tokenizer and template are those that the adapter was trained with.

use foehn_files::printable;
use foehn_lora::{Adapter, Manifest, attach};
use foehn_tokens::{ChatTemplate, Tokenizer};

use super::case::Case;
use super::{Check, Finding, Severity, chain};

/// Compares the base's hash with the manifest's, and the shapes of the matrices with those of the base.
pub(super) fn base(case: &Case<'_>) -> Finding {
    let looked_at = "the hash of the base in foehn.json, and the shapes of the matrices";
    let name = printable(&case.base.name).to_string();
    let fault = |found: String| {
        let advice = match case.manifest.as_ref().map(|manifest| manifest.base_name.as_str()) {
            Some(trained) if !trained.is_empty() && trained != case.base.name => {
                format!("load it on the base it was trained on, {}", printable(trained))
            }
            _ => "load it on the base that it was trained on, in the same version".into(),
        };
        Finding::new(Check::Base, Severity::Fault, looked_at, found).advising(advice)
    };
    let hash = case.manifest.as_ref().map(|manifest| manifest.base_sha256.as_str()).unwrap_or_default();
    if !hash.is_empty() && hash != case.hashes.base_sha256 {
        let (trained, found) = (short(hash), short(&case.hashes.base_sha256));
        return fault(format!("it was trained on a base with the hash {trained}; that of {name} is {found}"));
    }
    let Ok(adapter) = &case.adapter else {
        let found = if hash.is_empty() { "the adapter cannot be attached" } else { "the hash is the same" };
        return Finding::new(Check::Base, known(!hash.is_empty()), looked_at, found);
    };
    if let Err(error) = fits(case, adapter) {
        return fault(format!("it does not fit {name}: {}", chain(&error)));
    }
    let modules = adapter.modules.len();
    Finding::sound(
        Check::Base,
        looked_at,
        match hash.is_empty() {
            true => format!("its {modules} modules fit {name}; it has no hash to compare, so the weights may differ"),
            false => format!("the hash is that of {name}, and all {modules} modules fit"),
        },
    )
}

fn fits(case: &Case<'_>, adapter: &Adapter) -> Result<(), foehn_lora::Error> {
    attach(&mut case.base.model.clone(), adapter)
}

fn known(is: bool) -> Severity {
    if is { Severity::Sound } else { Severity::NotChecked }
}

/// Compares the base's tokenizer and template with the manifest's hashes, and with those in the adapter's folder.
pub(super) fn text(case: &Case<'_>) -> Finding {
    let looked_at = "tokenizer and chat template of the base, of foehn.json and of the adapter's folder";
    let recorded = |field: fn(&Manifest) -> &String| case.manifest.as_ref().map(field).filter(|hash| !hash.is_empty());
    let tokenizer = recorded(|manifest| &manifest.tokenizer_sha256);
    let template = recorded(|manifest| &manifest.template_sha256);
    let differs = |recorded: Option<&String>, found: &String| recorded.is_some_and(|recorded| recorded != found);
    let mut faults = Vec::new();
    if differs(tokenizer, &case.hashes.tokenizer_sha256) {
        faults.push("it was trained with another tokenizer than the base's".to_owned());
    }
    if differs(template, &case.hashes.template_sha256) {
        faults.push("it was trained with another chat template than the base's".to_owned());
    }
    let (own_tokenizer, own_template) = (own_tokenizer(case), own_template(case));
    let mut remarks = Vec::new();
    for (what, own) in [("tokenizer", &own_tokenizer), ("chat template", &own_template)] {
        match own {
            None | Some(Own::Same) => {}
            Some(Own::SameIds) => remarks.push(format!("the folder's {what} has other text, but gives the same ids")),
            Some(Own::Other(how)) => faults.push(format!("the {what} in the adapter's folder is another one: {how}")),
        }
    }
    if !faults.is_empty() {
        return Finding::new(Check::Text, Severity::Fault, looked_at, faults.join("; ")).advising(
            "use the tokenizer and the template that it was trained with, or train it again with the base's",
        );
    }
    let is_known = (tokenizer.is_some() && template.is_some()) || (own_tokenizer.is_some() && own_template.is_some());
    let said = match is_known {
        true => "they are the same",
        false => "the adapter does not say which it was trained with",
    };
    let found = [vec![said.to_owned()], remarks].concat().join("; ");
    Finding::new(Check::Text, known(is_known), looked_at, found)
}

/// A file of the adapter's folder, beside the base's.
enum Own {
    Same,
    /// Another text, with the same ids for all that was tried.
    SameIds,
    Other(String),
}

fn own_tokenizer(case: &Case<'_>) -> Option<Own> {
    let (folder, base) = (&case.inputs.adapter, &case.base.tokenizer);
    if !["tokenizer.json", "tekken.json"].iter().any(|name| folder.join(name).exists()) {
        return None;
    }
    let own = match Tokenizer::open(folder) {
        Ok(own) => own,
        Err(error) => return Some(Own::Other(chain(&error))),
    };
    if own.fingerprint() == base.fingerprint() {
        return Some(Own::Same);
    }
    if own.eos_ids() != base.eos_ids() {
        return Some(Own::Other(format!("it stops at {:?}, the base's at {:?}", own.eos_ids(), base.eos_ids())));
    }
    let mut messages = case.probes.records.iter().flat_map(|record| &record.messages);
    let differs =
        messages.find(|message| own.encode_text(&message.content).ok() != base.encode_text(&message.content).ok());
    Some(match differs {
        None => Own::SameIds,
        Some(message) => {
            let text: String = message.content.chars().take(40).collect();
            Own::Other(format!("it gives other ids for `{}`", printable(text)))
        }
    })
}

fn own_template(case: &Case<'_>) -> Option<Own> {
    let (folder, tokenizer) = (&case.inputs.adapter, &case.base.tokenizer);
    let file = folder.join("chat_template.jinja");
    let has_file = file.exists();
    let own = match ChatTemplate::open(if has_file { &file } else { folder }, tokenizer) {
        Ok(own) => own,
        Err(error) if has_file => return Some(Own::Other(chain(&error))),
        Err(_) => return None,
    };
    if own.fingerprint() == case.base.template.fingerprint() {
        return Some(Own::Same);
    }
    for (record, sample) in case.probes.records.iter().zip(&case.probes.samples) {
        match own.sample(tokenizer, record) {
            Ok(own) if own == *sample => {}
            Ok(_) => return Some(Own::Other("it renders the same conversation to other ids".into())),
            Err(error) => return Some(Own::Other(chain(&error))),
        }
    }
    Some(if case.probes.samples.is_empty() { Own::Other("it has other text".into()) } else { Own::SameIds })
}

/// The beginning of a hash.
fn short(hash: &str) -> String {
    printable(hash.chars().take(12).collect::<String>()).to_string()
}
