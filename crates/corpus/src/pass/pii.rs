//! Personal data and secrets.

mod finders;

use serde::{Deserialize, Serialize};

use super::{Pass, repair_calls, repair_messages};
use crate::said::texts;
use foehn_record::Record;

/// A kind of personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PiiKind {
    /// A private key, an access token of AWS, GitHub, GitLab, Slack, Google, Stripe, Hugging Face, OpenAI, npm or PyPI,
    /// or a JSON Web Token, recognised by its published form.
    Secret,
    /// An e-mail address, also written in words: `jane (at) example (dot) org`.
    Email,
    /// An international bank account number, with its country's length and the check digits of ISO 7064 (MOD 97).
    Iban,
    /// A payment card number, with an issuer's prefix and length, the groups of a card, and Luhn's check digit (ISO/IEC
    /// 7812).
    Card,
    /// A public IPv4 or IPv6 address.
    Ip,
    /// A United States social security number in a range that is issued.
    Ssn,
    /// A telephone number: with a country code, in the form of North America or the United Kingdom, or after a word
    /// such as `phone`.
    Phone,
}

impl PiiKind {
    /// The placeholder that replaces masked data.
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Secret => "[SECRET]",
            Self::Email => "[EMAIL]",
            Self::Iban => "[IBAN]",
            Self::Card => "[CARD]",
            Self::Ip => "[IP]",
            Self::Ssn => "[SSN]",
            Self::Phone => "[PHONE]",
        }
    }

    /// What it is, for a reason.
    fn what(self) -> &'static str {
        match self {
            Self::Secret => "a secret",
            Self::Email => "an e-mail address",
            Self::Iban => "a bank account number",
            Self::Card => "a card number",
            Self::Ip => "an IP address",
            Self::Ssn => "a social security number",
            Self::Phone => "a telephone number",
        }
    }
}

/// What [`Pii`] does with its findings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PiiAction {
    /// Replaces it by a placeholder of its kind.
    #[default]
    Mask,
    /// Rejects the record. The reason names the kind, and does not repeat the data.
    Drop,
}

/// Masks personal data and secrets in every message, its reasoning and the arguments of its calls, or rejects a record
/// that has any. Metadata and the definitions of tools are not examined. Data in arguments that would not be JSON with a
/// placeholder, such as a number, is a reason to reject the record.
///
/// It prefers missing some data to masking a date, a version, an ISBN or a measure. A number with a checksum must pass
/// it. An IP address that could be a version needs a word before it that says what it is, and so does a local telephone
/// number. Names and postal addresses are not searched for.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pii {
    /// What to do with the data.
    pub action: PiiAction,
    /// The kinds to look for.
    pub kinds: Vec<PiiKind>,
}

impl Default for Pii {
    /// Masks every kind.
    fn default() -> Self {
        use PiiKind::{Card, Email, Iban, Ip, Phone, Secret, Ssn};
        Self { action: PiiAction::Mask, kinds: vec![Secret, Email, Iban, Card, Ip, Ssn, Phone] }
    }
}

impl Pass for Pii {
    fn name(&self) -> &'static str {
        "pii"
    }

    fn repair(&self, record: &mut Record) -> bool {
        if self.action != PiiAction::Mask {
            return false;
        }
        let changed =
            repair_messages(record, |text| self.masked(text)) | repair_calls(record, |text| self.masked(text));
        changed | self.mask_arguments(record)
    }

    fn redact(&self, text: &str) -> Option<String> {
        self.masked(text)
    }

    fn check(&self, record: &Record) -> Option<String> {
        let found = |at: usize, text: &str| Some((at, finders::find(text, &self.kinds).first()?.1));
        let messages = || record.messages.iter().enumerate();
        if self.action == PiiAction::Mask {
            let mut calls = messages().flat_map(|(at, message)| message.tool_calls.iter().map(move |call| (at, call)));
            let (at, kind) = calls.find_map(|(at, call)| found(at, &call.function.arguments))?;
            let what = kind.what();
            return Some(format!("the arguments of a call hold {what} that cannot be masked (message {})", at + 1));
        }
        let mut said = messages().flat_map(|(at, message)| texts(message).map(move |text| (at, text)));
        let in_rejected = || {
            let rejected = record.rejected.as_ref()?;
            found(record.messages.len().saturating_sub(1), rejected)
        };
        let (at, kind) = said.find_map(|(at, text)| found(at, text)).or_else(in_rejected)?;
        Some(format!("the text holds {} (message {})", kind.what(), at + 1))
    }
}

impl Pii {
    /// Masks what is found only in the arguments as a whole, such as a number after the key `phone`. If they would not be
    /// JSON any more, they stay.
    fn mask_arguments(&self, record: &mut Record) -> bool {
        let mut changed = false;
        for call in record.messages.iter_mut().flat_map(|message| &mut message.tool_calls) {
            let masked = self.masked(&call.function.arguments);
            let is_object = |text: &String| serde_json::from_str::<serde_json::Map<_, _>>(text).is_ok();
            if let Some(masked) = masked.filter(is_object) {
                call.function.arguments = masked;
                changed = true;
            }
        }
        changed
    }

    /// The text with placeholders, if there is anything to mask.
    fn masked(&self, text: &str) -> Option<String> {
        let mut masked = self.masked_once(text)?;
        // Masking can separate text, so that more data is found in the next round.
        while let Some(again) = self.masked_once(&masked) {
            masked = again;
        }
        Some(masked)
    }

    fn masked_once(&self, text: &str) -> Option<String> {
        let found = finders::find(text, &self.kinds);
        if found.is_empty() {
            return None;
        }
        let (mut masked, mut end) = (String::with_capacity(text.len()), 0);
        for (span, kind) in found {
            masked.push_str(&text[end..span.start]);
            masked.push_str(kind.placeholder());
            end = span.end;
        }
        masked.push_str(&text[end..]);
        Some(masked)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masked(text: &str) -> String {
        Pii::default().masked(text).unwrap_or_else(|| text.to_owned())
    }

    #[test]
    fn what_is_found_is_masked_by_its_kind() {
        // Tokens are assembled here, so that repository scanners do not report them.
        let secrets = [
            format!("AKIA{}", "IOSFODNN7EXAMPLE"),
            format!("ghp_{}", "a1B2".repeat(9)),
            format!("github_pat_{}", "11ABCDE0_".repeat(9)),
            format!("glpat-{}", "x1Y2z3".repeat(4)),
            format!("xoxb-{}", "123456789012-abcdefABCDEF"),
            format!("AIza{}", "Sy0_a-B".repeat(5)),
            format!("sk_live_{}", "4eC39HqLyjWDarjtT1zdp7dc"),
            format!("hf_{}", "aBcDeFgH1".repeat(4)),
            format!("sk-proj-{}", "aB3dE6gH9kL2".repeat(4)),
            format!("eyJ{}.eyJ{}.{}", "hbGciOiJIUzI1NiJ9", "zdWIiOiIxMjM0NTY3ODkwIn0", "dozjgNryP4J3jVmNHl0w5N"),
            format!("-----BEGIN RSA {}-----\nMIIEow==\n-----END RSA {}-----", "PRIVATE KEY", "PRIVATE KEY"),
        ];
        for secret in &secrets {
            assert_eq!(masked(&format!("key: {secret}, keep it")), "key: [SECRET], keep it", "{secret}");
        }
        for (text, expected) in [
            ("Write to Jane.Doe+x@mail.example.co.uk.", "Write to [EMAIL]."),
            ("<zoë@exämple.de>", "<[EMAIL]>"),
            ("mailto:a@b.io?x", "mailto:[EMAIL]?x"),
            ("Pay to DE89 3704 0044 0532 0130 00 AND WAIT", "Pay to [IBAN] AND WAIT"),
            ("GB82WEST12345698765432, NO9386011117947.", "[IBAN], [IBAN]."),
            ("card 4111 1111 1111 1111 or 5500-0000-0000-0004", "card [CARD] or [CARD]"),
            ("3782 822463 10005; 6011111111111117", "[CARD]; [CARD]"),
            ("from 203.0.113.7:8080 to [2001:db8::8a2e:370:7334]", "from [IP]:8080 to [[IP]]"),
            ("the server at 81.2.69.14 fell", "the server at [IP] fell"),
            ("call +44 20 7946 0958 or +1 (212) 555-0142", "call [PHONE] or [PHONE]"),
            ("(212) 555-0142; 415-555-2671.", "[PHONE]; [PHONE]."),
            ("SSN 536-22-1234, social security number: 536 22 1235", "SSN [SSN], social security number: [SSN]"),
            ("Reach me on 020 7946 0018 or 07700 900123.", "Reach me on [PHONE] or [PHONE]."),
            ("01632 960983; (0161) 496 0123, 07700900456", "[PHONE]; [PHONE], [PHONE]"),
            ("jane.doe (at) example (dot) org, jo [at] mail.example.co.uk", "[EMAIL], [EMAIL]"),
            ("write to jo at example dot com", "write to [EMAIL]"),
            ("Tel.: 030 / 901820, phone number is 020 7946 0018", "Tel.: [PHONE], phone number is [PHONE]"),
        ] {
            assert_eq!(masked(text), expected, "{text}");
        }
    }

    #[test]
    fn what_only_looks_like_it_stays() {
        for text in [
            "On 2024-01-15, 15.01.2024, 01/15/2024 and 2024.01.15 at 12:30:45.123",
            "ISBN 978-0-306-40615-7, 9780306406157, 0-306-40615-2, ISSN 0378-5955",
            "version 1.2.3.4, v10.0.190.45, Chrome 120.0.6099.109, 10.0.19045.3803, section 4.3.2.1",
            "127.0.0.1, 192.168.1.1, 10.1.2.3, 0.0.0.0, 255.255.255.0, 300.1.1.1, 1.2.3.4.5",
            "std::fmt, a::b, ::1, fe80::1, 10:20:30, dead::beef, 00:1a:2b:3c:4d:5e",
            "icon@2x.png, lodash@4.17.21, git@github.com:owner/name, @user, a @ b, x@localhost",
            "4111 1111 1111 1112, 1234567890123456, 0.4111111111111111, 41-11-1111111111111, 1700000000000",
            "DE89 3704 0044 0532 0130 01, GB82 TEST, AB12 CDEF 3456, XX00 1111 2222 3333",
            "pi is 3.14159265358979, 6.02214076e23, 299792458 m/s, 1,299,792,458",
            "`0.4.0+25.0.8775105` and `+23.1.7779620`, +100 points, 5 + 12345678 = 12345683, +-0.5, 2+20240115 x",
            "call 911, text 12345, phone 10, the years 1914-1918 and 1939-1945",
            "555-0142, 100-200-3000, 12-345-67890, 212-555-01423, order 123-45-6789, part no. 219-42-1234",
            "000-12-3456, 666-12-3456, 912-12-3456, 123-00-4567, 123-45-0000, 536-22-12345, 1536-22-1234",
            "0306 40615 2, 0306406152, 01-02-2024, 00 1234 5678 90, order 07700900123, 0.20 7946 0018, 01234 5678",
            "Meet me (at) noon, we sat at example dot plots, (at) the (dot) end, 3 (at) 5 (dot) 2",
            "AKIA, ghp_short, sk-learn-pipelines-are-very-long-words-here, eyJhbGciOiJIUzI1NiJ9, hf_model",
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "550e8400-e29b-41d4-a716-446655440000 and 1000000007 and 2147483647",
            "[EMAIL] [PHONE] [CARD] [IBAN] [IP] [SSN] [SECRET]",
            "8.8.8.8, 1.1.1.1 and the scores 3.10.22.45",
        ] {
            assert_eq!(masked(text), text);
        }
    }

    #[test]
    fn kinds_and_actions_are_chosen() {
        let text = "a@example.org, +44 20 7946 0958";
        let mail = Pii { kinds: vec![PiiKind::Email], ..Pii::default() };
        assert_eq!(mail.masked(text).as_deref(), Some("[EMAIL], +44 20 7946 0958"));
        let record = Record::new(vec![crate::Message::new(crate::Role::User, text)]);
        let dropping = Pii { action: PiiAction::Drop, ..Pii::default() };
        assert_eq!(dropping.check(&record).as_deref(), Some("the text holds an e-mail address (message 1)"));
        assert_eq!(Pii::default().check(&record), None);
    }

    proptest! {
        #[test]
        fn masking_twice_is_masking_once(text in "([ -~]{0,9}|a@b\\.io|\\+44 20 7946 0958|4111111111111111|203\\.0\\.113\\.7|tel: ?|0|1|-|DE89370400440532013000){0,12}") {
            let once = masked(&text);
            prop_assert_eq!(masked(&once), once);
        }
    }
}
