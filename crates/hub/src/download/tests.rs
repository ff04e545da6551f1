use super::*;

const TEXT: &[u8] = b"the quick brown fox jumps over the lazy dog";

/// A source that delivers `pieces[i]` bytes in its i-th response and then breaks off.
struct Flaky {
    text: &'static [u8],
    pieces: Vec<usize>,
    resumes: bool,
    asked: Vec<u64>,
}

struct BreaksOff<'a>(&'a [u8], bool);

impl Read for BreaksOff<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (self.0.is_empty(), self.1) {
            (true, true) => Err(io::ErrorKind::ConnectionReset.into()),
            _ => self.0.read(buffer),
        }
    }
}

impl Flaky {
    fn new(pieces: &[usize]) -> Self {
        Self { text: TEXT, pieces: pieces.to_vec(), resumes: true, asked: Vec::new() }
    }

    fn open(&mut self, from: u64) -> Result<Incoming<'static>> {
        let piece = self.pieces[self.asked.len()];
        self.asked.push(from);
        let from = if self.resumes { from } else { 0 };
        let rest = &self.text[from as usize..];
        let text = &rest[..piece.min(rest.len())];
        Ok(Incoming { from, reader: Box::new(BreaksOff(text, text.len() < rest.len())) })
    }
}

fn wanted() -> Wanted {
    let sha256 = Some(hex(&Sha256::digest(TEXT)));
    Wanted { file: "f".to_owned(), size: Some(TEXT.len() as u64), sha256 }
}

fn run(folder: &Path, source: &mut Flaky) -> Result<String> {
    fetch(folder, &wanted(), CONNECTIONS, &mut |_| {}, |from| source.open(from))
}

fn arrived(folder: &Path) -> bool {
    assert!(!folder.join("f.partial").exists());
    fs::read(folder.join("f")).is_ok_and(|text| text == TEXT)
}

#[test]
fn a_broken_connection_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = Flaky::new(&[10, 5, 99]);
    assert_eq!(run(folder.path(), &mut source).ok(), wanted().sha256);
    assert_eq!(source.asked, [0, 10, 15]);
    assert!(arrived(folder.path()));
}

#[test]
fn a_connection_that_brings_nothing_is_given_up_and_the_next_run_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = Flaky::new(&[10, 0, 99]);
    assert!(matches!(run(folder.path(), &mut source), Err(Error::BrokenOff { done: 10, .. })));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    run(folder.path(), &mut source).unwrap();
    assert_eq!(source.asked, [0, 10, 10]);
    assert!(arrived(folder.path()));
}

#[test]
fn a_source_that_never_answers_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut open = |_| -> Result<Incoming<'static>> { Err(Error::Offline) };
    let error = fetch(folder.path(), &wanted(), CONNECTIONS, &mut |_| {}, &mut open);
    assert!(matches!(error, Err(Error::Offline)));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_source_that_cannot_resume_starts_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = Flaky { resumes: false, ..Flaky::new(&[10, 99]) };
    run(folder.path(), &mut source).unwrap();
    assert!(arrived(folder.path()));
}

#[test]
fn a_rotten_partial_file_is_thrown_away() {
    for rotten in [&b"xxx"[..], &[b'x'; 43], &[b'x'; 99]] {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("f.partial"), rotten).unwrap();
        run(folder.path(), &mut Flaky::new(&[99, 99])).unwrap();
        assert!(arrived(folder.path()));
    }
}

#[test]
fn wrong_bytes_never_arrive() {
    type Is = fn(&Error) -> bool;
    let cases: [(&[u8], Is); 3] = [
        (b"the quick brown fox jumps over the lazy cat", |error| matches!(error, Error::Checksum { .. })),
        (b"the quick brown fox jumps over the lazy dogs", |error| matches!(error, Error::Length { found: 44, .. })),
        (b"the quick", |error| matches!(error, Error::BrokenOff { done: 9, .. })),
    ];
    for (text, is) in cases {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("f"), "the old one").unwrap();
        let error = run(folder.path(), &mut Flaky { text, ..Flaky::new(&[99; 6]) }).unwrap_err();
        assert!(is(&error), "{error:?}");
        assert_eq!(fs::read(folder.path().join("f")).unwrap(), b"the old one");
    }
}

#[test]
fn progress_ends_at_the_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut last = None;
    let mut tell = |event: Progress<'_>| {
        let Progress::Bytes { file, done, total } = event else { panic!("{event:?}") };
        last = Some((file.to_owned(), done, total));
    };
    fetch(folder.path(), &wanted(), 1, &mut tell, |from| Flaky::new(&[99]).open(from)).unwrap();
    assert_eq!(last, Some(("f".to_owned(), 43, Some(43))));
}
