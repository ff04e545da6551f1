//! A known number of generated faults is planted among the clean records of VAKOG and among texts of random words. The
//! precision and recall of each pass are computed from them.

mod common;

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use common::Bench;
use foehn_corpus::{
    ClassBalance, ClassWords, Contamination, ContaminationSettings, Language, Length, Markup, MarkupAction, Message,
    NearDuplicates, Pass, Pii, PiiAction, Pipeline, Record, Refusals, Repetition, Role, Trim, read_clean,
};

/// Pseudo-random numbers, the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % limit
    }

    fn digits(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(b'0' + self.below(10) as u8)).collect()
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    /// A word of random letters.
    fn word(&mut self) -> String {
        let length = 3 + self.below(7);
        (0..length).map(|_| char::from(b'a' + self.below(26) as u8)).collect()
    }

    fn words(&mut self, count: usize) -> String {
        (0..count).map(|_| self.word()).collect::<Vec<_>>().join(" ")
    }
}

fn vakog(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../datasets/vakog").join(name)
}

/// The clean records.
fn good() -> Vec<Record> {
    read_clean(&vakog("vakog_clean.jsonl")).expect("the committed file")
}

fn record(prompt: &str, answer: &str) -> Record {
    Record::pair(prompt, answer)
}

/// Checks how many of the planted records a pass rejects, and how many of the clean ones.
#[track_caller]
fn check(pass: &dyn Pass, plants: &[Record], good: &[Record]) {
    let missed: Vec<_> = plants.iter().filter(|record| pass.check(record).is_none()).map(|r| &r.messages).collect();
    assert!(
        missed.is_empty(),
        "{}: recall {} of {}: {missed:?}",
        pass.name(),
        plants.len() - missed.len(),
        plants.len()
    );
    let wrong: Vec<_> = good.iter().filter_map(|record| Some((pass.check(record)?, &record.messages))).collect();
    assert!(wrong.is_empty(), "{}: {} good records rejected: {wrong:?}", pass.name(), wrong.len());
}

#[test]
fn refusals() {
    let openings = ["I'm sorry, but ", "I apologize, but ", "Sorry, ", "Unfortunately, ", "", "I am sorry, however, "];
    let cannot = ["I can't ", "I cannot ", "I'm not able to ", "I am unable to ", "I won't be able to "];
    let verbs = [
        "assist with that.",
        "help you with this request.",
        "provide that information.",
        "fulfill that.",
        "generate such content.",
    ];
    let mut plants: Vec<Record> = Vec::new();
    for opening in openings {
        for cannot in cannot {
            plants.extend(
                verbs.map(|verb| record("Do it.", &format!("{opening}{cannot}{verb} Is there anything else?"))),
            );
        }
    }
    for (at, model) in
        ["an AI language model", "an AI", "a large language model", "an artificial intelligence", "an AI assistant"]
            .into_iter()
            .enumerate()
    {
        let text = format!("Rain is heard. As {model}, I do not hear it.");
        plants.push(record("Why?", if at % 2 == 0 { &text } else { text.trim_start_matches("Rain is heard. ") }));
    }
    assert_eq!(plants.len(), 155);
    check(&Refusals::default(), &plants, &good());
}

#[test]
fn markup() {
    let wraps: [(&str, &str); 12] = [
        ("<p>", "</p>"),
        ("<div class=\"a b\">\n", "\n</div>"),
        ("<span style='color: red'>", "</span>"),
        ("<br/>", "<br>"),
        ("<b>", "</b>"),
        ("<!-- x -->", ""),
        ("", "<script src=\"x.js\">var a = 1;</script>"),
        ("", " [edit]"),
        ("<ul><li>", "</li></ul>"),
        ("<h2>", "</h2>"),
        ("[](x.html)", ""),
        ("&nbsp;", "&#10;"),
    ];
    let (good, mut plants) = (good(), Vec::new());
    for (at, clean) in good.iter().enumerate() {
        let mut dirty = clean.clone();
        for message in &mut dirty.messages {
            let (before, after) = wraps[at % wraps.len()];
            let text = message.content.replace('\'', "&#39;").replace('é', "&eacute;");
            message.content = format!("{before}{text}{after}");
        }
        plants.push(dirty);
    }
    check(&Markup { action: MarkupAction::Drop }, &plants, &good);
    // After the repair, they equal the originals.
    let pipeline = Pipeline::new().with(Markup::default()).with(Trim);
    for (mut dirty, clean) in plants.into_iter().zip(good) {
        assert_eq!(pipeline.run(&mut dirty).rejected, None);
        assert_eq!(dirty.messages, clean.messages);
        let again = pipeline.run(&mut dirty.clone()).changed;
        assert_eq!(again, [false, false]);
    }
}

#[test]
fn repetition() {
    let mut dice = Dice(1);
    let mut plants = Vec::new();
    for at in 0..120 {
        let phrase_words = 1 + at % 6;
        let phrase = dice.words(phrase_words);
        let lead = dice.words(at % 5);
        // Short answers have a loop of four or more repetitions; long ones have more of them.
        let times = if at < 60 { 5 } else { 30 };
        plants.push(record("Say it.", &format!("{lead} {}", vec![phrase.as_str(); times].join(" "))));
        let (paragraph, others) = (dice.words(20), [dice.words(20), dice.words(20)]);
        plants.push(record(
            "Say it.",
            &format!("{paragraph}\n\n{}\n\n{paragraph}\n\n{}\n\n{paragraph}", others[0], others[1]),
        ));
    }
    let long: Vec<Record> = (0..200).map(|_| record("Say it.", &dice.words(200))).collect();
    check(&Repetition::default(), &plants, &[good(), long].concat());
}

#[test]
fn language() {
    // Universal Declaration of Human Rights, articles 1 to 3, as the United Nations publish them.
    let texts = [
        "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie sind mit Vernunft und Gewissen begabt und sollen einander im Geist der Brüderlichkeit begegnen.",
        "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils sont doués de raison et de conscience et doivent agir les uns envers les autres dans un esprit de fraternité.",
        "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, dotados como están de razón y conciencia, deben comportarse fraternalmente los unos con los otros.",
        "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi sono dotati di ragione e di coscienza e devono agire gli uni verso gli altri in spirito di fratellanza.",
        "Alle mensen worden vrij en gelijk in waardigheid en rechten geboren. Zij zijn begiftigd met verstand en geweten, en behoren zich jegens elkander in een geest van broederschap te gedragen.",
        "Alla människor är födda fria och lika i värde och rättigheter. De är utrustade med förnuft och samvete och bör handla gentemot varandra i en anda av broderskap.",
        "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw. Są oni obdarzeni rozumem i sumieniem i powinni postępować wobec innych w duchu braterstwa.",
        "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом и совестью и должны поступать в отношении друг друга в духе братства.",
        "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。人人有资格享有本宣言所载的一切权利和自由，不分种族、肤色、性别、语言、宗教、政治或其他见解、国籍或社会出身、财产、出生或其他身分等任何区别。",
        "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。人間は、理性と良心とを授けられており、互いに同胞の精神をもって行動しなければならない。",
    ];
    let plants: Vec<Record> =
        texts.iter().flat_map(|text| [record("What is it?", text), record(text, "Visual")]).collect();
    let english = Language { allowed: vec!["eng".to_owned()], ..Language::default() };
    check(&english, &plants, &good());
}

/// A number with the check digit of Luhn's algorithm.
fn card(dice: &mut Dice) -> String {
    let (prefix, length) =
        [("4", 16), ("52", 16), ("2221", 16), ("37", 15), ("6011", 16), ("35288", 16)][dice.below(6)];
    let body = format!("{prefix}{}", dice.digits(length - 1 - prefix.len()));
    let sum: u32 = body
        .chars()
        .rev()
        .enumerate()
        .map(|(at, c)| {
            let digit = c.to_digit(10).expect("a digit") * if at % 2 == 0 { 2 } else { 1 };
            digit / 10 + digit % 10
        })
        .sum();
    format!("{body}{}", (10 - sum % 10) % 10)
}

fn iban(dice: &mut Dice) -> String {
    let (country, length) = [("DE", 18), ("FR", 23), ("CH", 17), ("ES", 20), ("PL", 24)][dice.below(5)];
    let account = dice.digits(length);
    let value = |c: char| c.to_digit(36).expect("a letter or digit").to_string();
    let number: String = format!("{account}{country}00").chars().map(value).collect();
    let remainder = number.chars().fold(0, |rest, c| (rest * 10 + c.to_digit(10).expect("a digit")) % 97);
    format!("{country}{:02}{account}", 98 - remainder)
}

/// In groups of four.
fn grouped(number: &str, mark: &str) -> String {
    let groups: Vec<&str> = (0..number.len()).step_by(4).map(|at| &number[at..(at + 4).min(number.len())]).collect();
    groups.join(mark)
}

#[test]
fn personal_data() {
    let mut dice = Dice(2);
    let (mut plants, mut decoys) = (Vec::new(), good());
    let octet = |dice: &mut Dice, from: usize, to: usize| from + dice.below(to - from);
    for at in 0..100 {
        let (card, account) = (card(&mut dice), iban(&mut dice));
        let ip =
            [octet(&mut dice, 128, 169), octet(&mut dice, 0, 256), octet(&mut dice, 0, 256), octet(&mut dice, 1, 255)];
        let ip = ip.map(|octet| octet.to_string()).join(".");
        let calling = dice.pick(&["+44 20 ", "+49 (0) 30 ", "+33-1-", "+81.3.", "+358 9 "]);
        let found = [
            format!(
                "{}.{}{}@{}.{}",
                dice.word(),
                dice.word(),
                at,
                dice.word(),
                dice.pick(&["com", "co.uk", "de", "info"])
            ),
            if at % 2 == 0 || card.len() != 16 { card.clone() } else { grouped(&card, dice.pick(&[" ", "-"])) },
            if at % 2 == 0 { account.clone() } else { grouped(&account, " ") },
            ip.clone(),
            format!("{calling}{}", dice.digits(7)),
            format!(
                "({}{}) {}{}-{}",
                2 + dice.below(8),
                20 + dice.below(80),
                2 + dice.below(8),
                20 + dice.below(80),
                dice.digits(4)
            ),
            format!(
                "ghp_{}",
                (0..6).map(|_| format!("{}A{}", dice.digits(2), dice.word())).collect::<String>() + &"x".repeat(20)
            )
            .chars()
            .take(44)
            .collect(),
        ];
        plants.extend(found.map(|found| record("Who is it?", &format!("It is {found}, as far as I know."))));

        let wrong_card: String = card[..card.len() - 1].to_owned()
            + &((card[card.len() - 1..].parse::<u32>().expect("a digit") + 1) % 10).to_string();
        let wrong_account = account[..account.len() - 1].to_owned()
            + &((account[account.len() - 1..].parse::<u32>().expect("a digit") + 1) % 10).to_string();
        let isbn = format!("978{}", dice.digits(9));
        let sum: u32 = isbn
            .chars()
            .enumerate()
            .map(|(at, c)| c.to_digit(10).expect("a digit") * if at % 2 == 0 { 1 } else { 3 })
            .sum();
        let isbn = format!("{isbn}{}", (10 - sum % 10) % 10);
        let (year, month, day) = (1900 + dice.below(200), 1 + dice.below(12), 1 + dice.below(28));
        let near = [
            format!(
                "{year}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{}Z",
                dice.below(24),
                dice.below(60),
                dice.below(60),
                dice.digits(3)
            ),
            format!("{day:02}.{month:02}.{year} and {month:02}/{day:02}/{year}, {year}{month:02}{day:02}"),
            format!("ISBN {isbn} or {}-{}-{}-{}-{}", &isbn[..3], &isbn[3..4], &isbn[4..7], &isbn[7..12], &isbn[12..]),
            format!("version {ip}, v{ip}, release {ip}"),
            format!("{wrong_card} and {}", grouped(&wrong_card, " ")),
            format!("{wrong_account}; {}", grouped(&wrong_account, " ")),
            format!(
                "{}.{} and {},{} and {}e{}",
                dice.digits(3),
                dice.digits(14),
                dice.digits(3),
                dice.digits(3),
                dice.digits(2),
                dice.digits(2)
            ),
            format!("{}@{} and 192.168.{}.{}", dice.word(), dice.word(), dice.below(256), dice.below(256)),
            format!("order 7{} of {} pieces, no. {}", dice.digits(9), dice.digits(7), dice.digits(5)),
            format!("sha256:{}", (0..16).map(|_| format!("{:04x}", dice.below(65536))).collect::<String>()),
        ];
        decoys.extend(near.map(|near| record("What is it?", &format!("It is {near}, as far as I know."))));
    }
    check(&Pii { action: PiiAction::Drop, ..Pii::default() }, &plants, &decoys);
    // After masking, no more data is found.
    let pii = Pii::default();
    for mut plant in plants {
        assert!(pii.repair(&mut plant));
        let text = &plant.messages[1].content;
        assert!(text.starts_with("It is [") && text.ends_with("], as far as I know."), "{text}");
        assert!(!text.contains(|c: char| c.is_ascii_digit()), "{text}");
    }
}

#[test]
fn lengths() {
    let good = good();
    let longest = good.iter().flat_map(|r| &r.messages).map(|m| m.content.chars().count()).max().expect("messages");
    let mut dice = Dice(3);
    let plants: Vec<Record> = (0..50)
        .map(|at| match at % 3 {
            0 => record("What is it?", &"é".repeat(longest + 1 + at)),
            1 => record(&"é".repeat(longest + 1 + at), "Visual"),
            _ => record("?", &dice.words(longest / 2)),
        })
        .collect();
    let pass = Length { max_prompt: Some(longest), max_answer: Some(longest), ..Length::default() };
    check(&pass, &plants, &good);
}

#[test]
fn contamination() {
    let probes = vakog("probes/recognition.jsonl");
    let settings = ContaminationSettings {
        fields: vec!["sentence".to_owned()],
        ..ContaminationSettings::new(vec![probes.clone()])
    };
    let pass = Contamination::new(&settings).expect("the committed probes");
    let lines = std::fs::read_to_string(&probes).expect("the committed probes");
    let mut plants = Vec::new();
    for line in lines.lines() {
        let probe: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let sentence = probe["sentence"].as_str().expect("text");
        if sentence.split(' ').count() < settings.min_words {
            continue;
        }
        plants.push(record(&format!("What modality is: '{sentence}'?"), "Visual"));
        plants.push(record(
            "Say something.",
            &format!("It was noon. {} And so on.", sentence.to_uppercase().replace(',', " -")),
        ));
        // With another last word, a long sentence still has 13 equal consecutive words; a shorter one is nearly the
        // same.
        if let Some((start, _)) = sentence.trim_end_matches('.').rsplit_once(' ')
            && start.len() > 40
        {
            plants.push(record("Say something.", &format!("{start} hm.")));
        }
    }
    assert!(plants.len() > 200, "{}", plants.len());
    check(&pass, &plants, &good());
}

/// The shingles, computed without the crate.
fn shingles(record: &Record) -> HashSet<(Role, String)> {
    let of = |message: &Message| {
        let chars: Vec<char> = message.content.chars().collect();
        chars.windows(5).map(|run| (message.role, run.iter().collect())).collect::<Vec<_>>()
    };
    record.messages.iter().flat_map(of).collect()
}

fn jaccard(a: &Record, b: &Record) -> f64 {
    let (a, b) = (shingles(a), shingles(b));
    a.intersection(&b).count() as f64 / a.union(&b).count() as f64
}

/// Changes letters of the record, one after the other, until its similarity is below the limit.
fn edited(dice: &mut Dice, original: &Record, below: f64) -> Record {
    let mut edited = original.clone();
    while jaccard(original, &edited) >= below {
        let text = &mut edited.messages[1].content;
        let at = dice.below(text.len());
        if text.as_bytes()[at] != b' ' {
            let letter = char::from(b'a' + dice.below(26) as u8).to_string();
            text.replace_range(at..=at, &letter);
        }
    }
    edited
}

#[test]
fn near_duplicates() {
    let mut dice = Dice(4);
    let bench = Bench::new();
    let originals: Vec<Record> =
        (0..800).map(|at| Record { id: Some(format!("{at}")), ..record(&dice.words(12), &dice.words(120)) }).collect();
    // One change reduces the index by about 0.012: so it is from 0.80 to 0.82 and, for those that must be kept, from
    // 0.76 to 0.79.
    let near: Vec<Record> = originals[..400].iter().map(|original| edited(&mut dice, original, 0.815)).collect();
    let far: Vec<Record> = originals[400..].iter().map(|original| edited(&mut dice, original, 0.785)).collect();
    let lines: String = originals
        .iter()
        .chain(&near)
        .chain(&far)
        .enumerate()
        .map(|(at, record)| {
            let record = Record { id: Some(at.to_string()), ..record.clone() };
            serde_json::to_string(&record).expect("JSON") + "\n"
        })
        .collect();
    bench.write("raw.jsonl", &lines);
    let report = bench.clean("raw.jsonl", "clean.jsonl", &Pipeline::new().with_set(NearDuplicates::default()));

    let all: Vec<&Record> = originals.iter().chain(&near).chain(&far).collect();
    let expected: BTreeSet<usize> = (800..1600).filter(|at| jaccard(all[*at], all[at - 800]) >= 0.8).collect();
    assert!((380..=400).contains(&expected.len()), "{}", expected.len());
    let mut found = BTreeSet::new();
    for rejection in &report.rejections {
        let (at, other) = (rejection.place.line as usize - 1, rejection.others[0].line as usize - 1);
        // A precision of 1.0: each rejected record is as similar as that to the record in its reason, and that one is
        // kept.
        assert!(jaccard(all[at], all[other]) >= 0.8, "{rejection:?}");
        assert!(report.rejections.iter().all(|rejected| rejected.place.line != other as u64 + 1));
        found.insert(at);
    }
    assert!(found.is_subset(&expected));
    let recall = found.len() as f64 / expected.len() as f64;
    assert!(recall >= 0.95, "recall {recall}: {} of {}", found.len(), expected.len());
    println!("near-duplicates at Jaccard 0.80 to 0.82: recall {recall:.4}, precision 1");
}

#[test]
fn audits_are_sections_of_the_report() {
    let bench = Bench::new();
    let classes = ["Auditory", "Gustatory", "Visual"];
    let mut dice = Dice(5);
    let lines: String = (0..300)
        .map(|at| {
            // Half of the prompts of one class begin with a word that no other class has.
            let lead = if at % 6 == 1 { "Chew: " } else { "" };
            let prompt = format!(
                "{lead}{} {}?",
                dice.pick(&["what", "which", "name", "say"]),
                dice.pick(&["sense", "kind", "class"])
            );
            let mut record = record(&prompt, classes[at % 3]);
            record.metadata.insert("label".to_owned(), classes[at % 3].into());
            record.metadata.insert("task".to_owned(), "recognise".into());
            serde_json::to_string(&record).expect("JSON") + "\n"
        })
        .collect();
    bench.write("raw.jsonl", lines);
    let pipeline = Pipeline::new().with_audit(ClassBalance::default()).with_audit(ClassWords::default());
    bench.clean("raw.jsonl", "clean.jsonl", &pipeline);
    let report: serde_json::Value = serde_json::from_str(&bench.read("report.json")).expect("JSON");
    let [balance, words] = report["sections"].as_array().expect("a list").as_slice() else { panic!("two sections") };
    assert_eq!(balance["audit"], "class-balance");
    assert!((balance["evenness"].as_f64().expect("a number") - 1.0).abs() < 1e-9);
    assert_eq!(
        balance["classes"][2],
        serde_json::json!({"class": "Visual", "records": 100, "share": 1.0 / 3.0, "within": {"recognise": 100}})
    );
    assert_eq!(words["audit"], "class-words");
    let found: Vec<_> = words["words"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|word| (&word["word"], &word["class"], &word["records"]))
        .collect();
    assert_eq!(found, [(&"chew".into(), &"Gustatory".into(), &50.into())]);
}
