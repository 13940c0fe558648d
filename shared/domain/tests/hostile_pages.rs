//! Pages made to hurt: none panics, and none takes more memory than the limit.
//!
//! Ten thousand seeded mutations of the bundled site's pages, and pages of 2 MiB that aim at one weakness each. The run
//! prints the slowest page and the largest allocation (`cargo test -p domain --test hostile_pages -- --nocapture`); time
//! is not asserted, for it is the machine's as much as ours.

// A test's helpers may unwrap as its tests do.
#![allow(clippy::unwrap_used)]
// A global allocator cannot be written without; it only counts and passes on.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use domain::extract::{ExtractContext, Extraction, Page, extract, visible_text};
use domain::posting::limits;
use domain::state::TrustLevel;
use domain::url::Rules;

/// What reading one page may take at most, beside the page itself (the worker's share for one of several).
const MEMORY_BYTES_MAX: usize = 32 << 20;

const MUTATIONS: u64 = 10_000;
const PAGE_BYTES: usize = 2 << 20;

struct Counting;

static CURRENT: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The counters are the process's: one test at a time.
static TURN: Mutex<()> = Mutex::new(());

fn grow(bytes: usize) {
    let now = CURRENT.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(now, Ordering::Relaxed);
}

// SAFETY: every call goes to the system's allocator with the same arguments.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        CURRENT.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new may both exist for a moment.
        grow(size);
        let new = unsafe { System.realloc(pointer, layout, size) };
        CURRENT.fetch_sub(layout.size(), Ordering::Relaxed);
        new
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What the worst page took.
#[derive(Default)]
struct Worst {
    time: (Duration, String),
    memory: (usize, String),
}

impl Worst {
    fn read(&mut self, name: &str, body: &[u8]) -> Extraction {
        let rules = Rules::builtin();
        let page = Page {
            url: "https://jobs.site.example/vacancies/4711-x?id=1",
            submitted_url: "https://jobs.site.example/v/4711",
            status: 200,
            headers: &[],
            content_type: Some("text/html"),
            body,
        };
        let context = ExtractContext {
            now: "2026-11-25T12:00:00Z".parse().unwrap(),
            rules: &rules,
            hints: None,
            module_trust: TrustLevel::Trusted,
        };
        let before = CURRENT.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let start = Instant::now();
        let extraction = extract(&page, &context);
        let time = start.elapsed();
        let memory = PEAK.load(Ordering::Relaxed).saturating_sub(before);
        if time > self.time.0 {
            self.time = (time, name.to_owned());
        }
        if memory > self.memory.0 {
            self.memory = (memory, name.to_owned());
        }
        check_limits(name, &extraction);
        assert!(memory <= MEMORY_BYTES_MAX, "{name} took {} KiB", memory >> 10);
        extraction
    }

    fn report(&self, what: &str) {
        println!(
            "{what}: slowest {} ms ({}), largest {} KiB ({})",
            self.time.0.as_millis(),
            self.time.1,
            self.memory.0 >> 10,
            self.memory.1
        );
    }
}

/// What holds of any result, whatever the page.
fn check_limits(name: &str, extraction: &Extraction) {
    assert!(extraction.postings.len() <= 1, "{name}");
    assert!(extraction.discovered_urls.len() <= limits::DISCOVERED_URLS_MAX, "{name}");
    assert!(extraction.warnings.len() <= limits::WARNINGS_MAX, "{name}");
    let json = serde_json::to_string(extraction).unwrap();
    assert!(!json.contains('\u{202e}') && !json.contains("\\u0000"), "{name}");
    let Some(posting) = extraction.postings.first() else {
        return;
    };
    let fields = &posting.fields;
    let chars = |text: &Option<String>| text.as_ref().map_or(0, |text| text.chars().count());
    assert!(chars(&fields.title) <= limits::TITLE_CHARS_MAX, "{name}");
    assert!(chars(&fields.organization_name) <= limits::ORGANIZATION_CHARS_MAX, "{name}");
    assert!(chars(&fields.description_text) <= limits::DESCRIPTION_CHARS_MAX, "{name}");
    assert!(chars(&fields.summary) <= limits::SUMMARY_CHARS_MAX, "{name}");
    assert!(chars(&fields.canonical_url) <= limits::URL_CHARS_MAX, "{name}");
    assert!(chars(&fields.identifier) <= limits::LABEL_CHARS_MAX, "{name}");
    assert!(fields.country.as_ref().is_none_or(|code| code.len() == 2), "{name}");
    assert!(fields.locations.len() <= limits::LOCATIONS_MAX, "{name}");
    assert!(fields.tags.len() <= limits::TAGS_MAX && fields.areas.len() <= limits::AREAS_MAX, "{name}");
    let is_set = |text: &Option<String>| text.as_ref().is_none_or(|text| !text.trim().is_empty());
    assert!(is_set(&fields.title) && is_set(&fields.organization_name) && is_set(&fields.city), "{name}");
}

/// SplitMix64: small, seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

#[rustfmt::skip]
const PIECES: &[&str] = &[
    "<", ">", "\"", "'", "&", "&amp;", "&lt;", "&#0;", "&#x110000;", "<!--", "-->", "<![CDATA[", "]]>", "</", "/>", "=", "\0", "\u{202e}", "\u{feff}", "{", "}", "[", "]", ",", ":", "\\", "\\u", "\n",
    "<p>", "</p>", "<div>", "</div>", "<b>", "</b>", "<a href=\"", "<table>", "<tr>", "<td>", "</table>", "<dl><dt>", "<dd>", "<ul><li>", "<select>", "<option>", "<svg>", "<math>", "<template>", "<script>", "</script>", "<style>", "<title>",
    "<script type=\"application/ld+json\">", "{\"@type\":\"JobPosting\",\"title\":\"x\"", "<div itemscope itemtype=\"http://schema.org/JobPosting\">", "<i itemprop=\"title\">", " itemref=\"a b\"", " id=\"a\"", " typeof=\"JobPosting\"", " property=\"title\"",
    "Deadline: ", "31.12.2026", "99/99/9999", "2026-02-30T25:61:61+99:99", "€ 1.000.000.000.000", "<h1>", "</h1>", "<base href=\"", "<link rel=canonical href=\"", "<meta name=robots content=\"noindex", " hidden", " style=\"display:none\"", "<plaintext>", "<textarea>", "<noscript>", "<frameset>", "<iframe>", "ü", "日本", "\u{0301}\u{0301}\u{0301}",
];

fn mutate(page: &mut Vec<u8>, others: &[Vec<u8>], random: &mut Random) {
    let at = random.below(page.len());
    match random.below(8) {
        0 => page[at] = random.next() as u8,
        1 => {
            let end = (at + 1 + random.below(64)).min(page.len());
            page.drain(at..end);
        }
        2 | 3 => {
            let piece = PIECES[random.below(PIECES.len())].as_bytes();
            page.splice(at..at, piece.iter().copied());
        }
        4 => {
            let piece = PIECES[random.below(PIECES.len())].repeat(1 + random.below(300));
            page.splice(at..at, piece.into_bytes());
        }
        5 => {
            let end = (at + 1 + random.below(200)).min(page.len());
            let part = page[at..end].to_vec();
            let to = random.below(page.len());
            page.splice(to..to, part);
        }
        6 => {
            let other = &others[random.below(others.len())];
            let start = random.below(other.len());
            let end = (start + random.below(500)).min(other.len());
            page.splice(at..at, other[start..end].iter().copied());
        }
        _ => page.truncate(page.len() - random.below(page.len() / 4 + 1)),
    }
}

fn bundled_pages() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../local/site/pages");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let pages: Vec<_> = files
        .iter()
        .filter(|file| file.extension().is_some_and(|extension| extension == "html"))
        .map(|file| std::fs::read(file).unwrap())
        .collect();
    assert!(pages.len() >= 20);
    pages
}

#[test]
fn no_mutation_of_a_page_panics_or_breaks_a_limit() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let pages = bundled_pages();
    let mut worst = Worst::default();
    for seed in 0..MUTATIONS {
        let mut random = Random(seed);
        let mut page = pages[random.below(pages.len())].clone();
        for _ in 0..1 + random.below(12) {
            if !page.is_empty() {
                mutate(&mut page, &pages, &mut random);
            }
        }
        worst.read(&format!("mutation of seed {seed}"), &page);
    }
    worst.report("mutations");
}

/// A page that is one piece again and again, numbered where it says `#`.
fn repeated(head: &str, piece: &str, tail: &str) -> Vec<u8> {
    let mut page = head.to_owned();
    let mut index = 0_u32;
    assert!(!piece.is_empty());
    while page.len() + piece.len() + tail.len() + 8 < PAGE_BYTES {
        if piece.contains('#') {
            page.push_str(&piece.replace('#', &index.to_string()));
        } else {
            page.push_str(piece);
        }
        index += 1;
    }
    page.push_str(tail);
    page.into_bytes()
}

#[test]
fn no_hostile_page_takes_more_than_the_limit() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let ld = "<script type=\"application/ld+json\">";
    let item = "<div itemscope itemtype=http://schema.org/JobPosting>";
    #[rustfmt::skip]
    let hostile: Vec<(&str, Vec<u8>)> = vec![
        ("plain text", repeated("<p>", "word ", "")),
        ("deep nesting", repeated("", "<div>", "x")),
        ("deep inline nesting and end tags", repeated(&"<span>".repeat(500), "</i>", "x")),
        ("deep inline nesting and paragraphs", repeated(&"<span>".repeat(500), "<p>", "x")),
        ("open formatting elements", repeated("", "<b class=x#><p>", "x")),
        ("formatting elements, misnested", repeated("", "<b><i><p></b></i>", "x")),
        ("attributes of one tag", repeated("<p ", "a#=1 ", ">x")),
        ("attributes of one tag without values", repeated("<p ", "a# ", ">x")),
        ("attributes of many tags", repeated("", &format!("<p {}>", "a b c d e f g h id=# class=x itemprop=title ".repeat(3)), "")),
        ("an endless attribute", repeated("<p id=\"", "x", "")),
        ("an endless name", repeated("<", "x", ">")),
        ("an endless comment", repeated("<!--", "- -", "")),
        ("many comments", repeated("", "<!---->", "")),
        ("openings of tags", repeated("", "<", "")),
        ("openings of end tags", repeated("<script>", "</scrip", "")),
        ("entities", repeated("<p>", "&nGt;", "")),
        ("broken entities", repeated("<p>", "&ampampamp&#x;&#", "")),
        ("combining characters", repeated("<h1>", "\u{0344}", "</h1>")),
        ("an endless heading", repeated("<h1>PhD ", "x ", "</h1>")),
        ("many headings", repeated("", "<h1>PhD position #</h1>", "")),
        ("many titles", repeated("", "<title>PhD position #</title>", "")),
        ("many metas", repeated("", "<meta property=og:title# content='x y z'>", "")),
        ("one meta", repeated("<meta name=description content='", "<b>x</b>", "'>")),
        ("many canonicals", repeated("", "<link rel=canonical href=/x#>", "")),
        ("tables", repeated("", "<table><tr><td>", "x")),
        ("table rows", repeated("<table>", "<tr><th>Deadline<td>31 February 2027", "")),
        ("definition lists", repeated("<dl>", "<dt>Deadline<dd>01/02/20#", "")),
        ("labels", repeated("", "<p>Deadline: <b>Location: <i>Salary: ", "")),
        ("sentences about deadlines", repeated("<p>", "apply by the deadline 1.1.1.1.1 until bis zum 3", "")),
        ("lines about deadlines", repeated("", "<p>apply by 1 until 2 before 3 of Maying 20266</p>", "")),
        ("digits", repeated("<p>Deadline: ", "1.1.", "")),
        ("salaries", repeated("", "<p>Salary: 1.000.000.000 - 2'000'000 € 3 000 000</p>", "")),
        ("links", repeated("", "<a href=/jobs/phd-#>PhD position #</a>", "")),
        ("apply links", repeated("", "<a href='#'>Apply</a><button>Apply</button>", "")),
        ("json-ld of brackets", repeated(ld, "[", "")),
        ("json-ld of zeros", repeated(&format!("{ld}["), "0,", "0]</script>")),
        ("json-ld of objects", repeated(&format!("{ld}["), "{\"a\":{}},", "0]</script>")),
        ("json-ld of quotes", repeated(&format!("{ld}{{"), "\"a\"\"", "</script>")),
        ("json-ld of commas", repeated(&format!("{ld}["), ",", "]</script>")),
        ("json-ld of many zeros", format!("{ld}[{}0]</script>", "0,".repeat(19_000)).into_bytes()),
        ("json-ld blocks", repeated("", &format!("{ld}{{\"@type\":\"JobPosting\",\"title\":\"PhD #\",\"url\":\"/j/#\"}}</script>"), "")),
        ("json-ld postings in one block", repeated(&format!("{ld}["), "{\"@type\":\"JobPosting\",\"title\":\"PhD #\",\"url\":\"/j/#\",\"description\":\"<p>x</p>\"},", "0]</script>")),
        ("json-ld references in circles", format!("{ld}[{}{{\"@type\":\"JobPosting\",\"title\":\"x y z\",\"hiringOrganization\":{{\"@id\":\"0\"}}}}]</script>", (0..5_000).map(|i| format!("{{\"@id\":\"{i}\",\"name\":{{\"@id\":\"{}\"}}}},", (i + 1) % 5_000)).collect::<String>()).into_bytes()),
        ("json-ld with a long description", format!("{ld}{{\"@type\":\"JobPosting\",\"title\":\"PhD\",\"description\":\"{}\"}}</script>", "<b>&lt;".repeat(60_000)).into_bytes()),
        ("microdata, nested items", repeated("", "<div itemprop=\"a b c d\" itemscope itemtype=http://schema.org/JobPosting>", "x")),
        ("microdata, nested properties", repeated(item, "<p itemprop=description><b itemprop=title>x", "")),
        ("microdata, many items", repeated("", &format!("{item}<b itemprop=title>PhD #</b></div>"), "")),
        ("microdata, references", repeated(&format!("<div id=a>{}</div>", "<b itemprop=title>x</b>".repeat(5_000)), &format!("<p {} itemref='a a a a b c'></p>", "itemscope itemtype=JobPosting"), "")),
        ("rdfa, nested", repeated("<div vocab=http://schema.org/>", "<div typeof=JobPosting property=title>x", "")),
        ("hidden elements", repeated("", "<p style='display : none ; color : red'>x", "")),
        ("status elements", repeated("", "<p class='job status closed alert x-y_z'>This is closed #</p>", "")),
        ("struck out text", repeated("", "<s><del>x</del></s>", "")),
        ("scripts", repeated("", "<script>if (a <b) {}</script>", "")),
        ("an open script", repeated("<script>", "<!-- <script> ", "")),
        ("selects", repeated("<select>", "<option>x", "")),
        ("foreign elements", repeated("<svg>", "<path/><math>", "")),
        ("templates", repeated("", "<template><p>", "")),
        ("high bytes of windows-1252", vec![0x80; PAGE_BYTES]),
        ("zeros", vec![0; PAGE_BYTES]),
        ("utf-16", b"\xff\xfe".iter().copied().chain(std::iter::repeat_n([b'x', 0x4e], PAGE_BYTES / 2 - 1).flatten()).collect()),
    ];
    let mut worst = Worst::default();
    for (name, page) in &hostile {
        let before = Instant::now();
        worst.read(name, page);
        println!(
            "{:>6} ms {:>6} KiB  {name}",
            before.elapsed().as_millis(),
            PEAK.load(Ordering::Relaxed).saturating_sub(CURRENT.load(Ordering::Relaxed)) >> 10
        );
        let text = visible_text(&Page {
            url: "https://a.example/",
            submitted_url: "https://a.example/",
            status: 200,
            headers: &[],
            content_type: Some("text/html"),
            body: page,
        });
        assert!(text.chars().count() <= limits::DESCRIPTION_CHARS_MAX, "{name}");
    }
    worst.report("hostile pages");
}
