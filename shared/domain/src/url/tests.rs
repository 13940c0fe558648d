use proptest::prelude::*;
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

use super::*;

fn normal(input: &str) -> String {
    check(input, &Rules::builtin())
}

/// Normalises, and checks what holds for every address.
fn check(input: &str, rules: &Rules) -> String {
    let url = match normalize(input, rules) {
        Ok(url) => url,
        Err(error) => panic!("{input:?}: {error}"),
    };
    let again = normalize(url.as_str(), rules).expect("a normal form has a normal form");
    assert_eq!(again, url, "{input:?} is not idempotent");
    assert_eq!(UrlHash::of(url.as_str()), url.hash());
    assert!(url.as_str().is_ascii());
    url.as_str().to_owned()
}

#[test]
fn the_normal_form_is_as_specified() {
    for (input, expected) in [
        // Case, ports, dots, white space.
        ("HTTP://EXAMPLE.org", "http://example.org/"),
        ("  https://example.org/a \n", "https://example.org/a"),
        ("https://example.org:443/", "https://example.org/"),
        ("http://example.org:/x", "http://example.org/x"),
        ("http://example.org:443/", "http://example.org:443/"),
        ("https://example.org./", "https://example.org/"),
        ("https://ex\tample.org/a\nb", "https://example.org/ab"),
        ("https:\\\\example.org\\a\\b", "https://example.org/a/b"),
        ("https:example.org/x", "https://example.org/x"),
        // IDNA and addresses.
        ("https://Müller.de/", "https://xn--mller-kva.de/"),
        ("https://faß.de/", "https://xn--fa-hia.de/"),
        ("http://0x7f.1/", "http://127.0.0.1/"),
        ("http://127.0.0.1../", "http://127.0.0.1/"),
        ("http://[::FFFF:1.2.3.4]:80/x", "http://[::ffff:102:304]/x"),
        // Path.
        ("https://example.org/a/./b/../c", "https://example.org/a/c"),
        ("https://example.org/a/%2e%2E/c", "https://example.org/c"),
        ("https://example.org/%7euser/%c3%a4", "https://example.org/~user/%C3%A4"),
        ("https://example.org/ä b", "https://example.org/%C3%A4%20b"),
        ("https://example.org/a%2fb%ff", "https://example.org/a%2Fb%FF"),
        ("https://example.org/100%/%%341", "https://example.org/100%25/%2541"),
        ("https://example.org/[x]|^", "https://example.org/%5Bx%5D%7C%5E"),
        ("https://example.org/a/", "https://example.org/a"),
        ("https://example.org/a//b", "https://example.org/a//b"),
        ("https://example.org/a//", "https://example.org/a//"),
        ("https://example.org//", "https://example.org//"),
        ("https://example.org/A/index.html", "https://example.org/A/index.html"),
        ("https://example.org/a;JSESSIONID=12?x=1", "https://example.org/a?x=1"),
        ("https://example.org/a;v=1;jsessionid=12;w=2/b", "https://example.org/a;v=1;w=2/b"),
        ("https://example.org/a/..;jsessionid=1/b", "https://example.org/b"),
        ("https://example.org/a/;jsessionid=1", "https://example.org/a"),
        ("https://example.org/;%6Asessionid=1", "https://example.org/"),
        // Query.
        ("https://example.org/?", "https://example.org/"),
        ("https://example.org/?b=2&a=1&b=1", "https://example.org/?a=1&b=2&b=1"),
        ("https://example.org/?&&a=1&&", "https://example.org/?a=1"),
        ("https://example.org/?x=1&amp;y=2&amp;amp;a", "https://example.org/?a&x=1&y=2"),
        ("https://example.org/?a=%2b+%20%e4&b", "https://example.org/?a=%2B+%20%E4&b"),
        ("https://example.org/?a=&a", "https://example.org/?a=&a"),
        ("https://example.org/?UTM_Source=x&q=1&ref=y&FBCLID=z", "https://example.org/?q=1"),
        ("https://example.org/?utm%5Fsource=x", "https://example.org/"),
        ("https://example.org/?amp;utm_source=x&amp;", "https://example.org/"),
        (
            "https://example.org/?reference=1&refer=2&source=3&campaign=4",
            "https://example.org/?campaign=4&refer=2&reference=1&source=3",
        ),
        ("https://example.org/?PHPSESSID=1&ASPSESSIONIDQQ=2&jsessionid=3", "https://example.org/"),
        ("https://example.org/?B=1&a=2", "https://example.org/?B=1&a=2"),
        ("https://example.org/?q=a?b/c", "https://example.org/?q=a?b/c"),
        // Fragment.
        ("https://example.org/#top", "https://example.org/"),
        ("https://example.org/#", "https://example.org/"),
        ("https://example.org/#/job/1", "https://example.org/#/job/1"),
        ("https://example.org/#!job=1%7e", "https://example.org/#!job=1~"),
        // Left alone without an override.
        ("http://www.example.org/", "http://www.example.org/"),
    ] {
        assert_eq!(normal(input), expected, "{input:?}");
    }
}

#[test]
fn what_is_no_address_is_refused_with_a_code() {
    let long = format!("https://example.org/{}", "a".repeat(2_029));
    let grows = format!("https://example.org/{}", "ä".repeat(400));
    for (input, code) in [
        ("", "empty"),
        (" \n ", "empty"),
        (long.as_str(), "too_long"),
        (grows.as_str(), "normal_form_too_long"),
        ("/relative", "not_absolute"),
        ("www.example.org/x", "not_absolute"),
        ("//example.org/x", "not_absolute"),
        ("ftp://example.org/", "unsupported_scheme"),
        ("javascript:alert(1)", "unsupported_scheme"),
        ("data:text/html,x", "unsupported_scheme"),
        ("https://user@example.org/", "has_userinfo"),
        ("https://:pw@example.org/", "has_userinfo"),
        ("https://", "no_host"),
        ("https://./", "no_host"),
        ("https://a b.org/", "invalid_host"),
        ("https://1.2.3.4.5/", "invalid_host"),
        ("https://[::1/", "invalid_host"),
        ("https://xn--a/", "invalid_host"),
        ("https://example.org:99999/", "invalid_port"),
    ] {
        let error = normalize(input, &Rules::builtin()).expect_err(input);
        assert_eq!(error.code(), code, "{input:?}");
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn the_longest_addresses_pass() {
    let longest = format!("https://example.org/{}", "a".repeat(2_028));
    assert_eq!(longest.len(), URL_LENGTH_MAX);
    assert_eq!(normal(&longest), longest);
}

fn entry(domain: &str) -> Override {
    Override { domain: domain.into(), enabled: true, ..Override::default() }
}

#[test]
fn the_override_of_the_longest_domain_rules() {
    let rules = Rules::with_overrides(vec![
        Override { strip_query_params: vec!["a".into()], ..entry("example.org") },
        Override { strip_query_params: vec!["b".into()], ..entry("jobs.example.org") },
        Override { strip_query_params: vec!["c".into()], enabled: false, ..entry("deep.jobs.example.org") },
    ]);
    for (input, expected) in [
        ("https://example.org/?a=1&b=2&c=3", "https://example.org/?b=2&c=3"),
        ("https://www.example.org/?a=1&b=2&c=3", "https://www.example.org/?b=2&c=3"),
        ("https://jobs.example.org/?a=1&b=2&c=3", "https://jobs.example.org/?a=1&c=3"),
        ("https://deep.jobs.example.org/?a=1&b=2&c=3", "https://deep.jobs.example.org/?a=1&c=3"),
        ("https://notexample.org/?a=1&b=2&c=3", "https://notexample.org/?a=1&b=2&c=3"),
    ] {
        assert_eq!(check(input, &rules), expected);
    }
}

#[test]
fn an_override_strips_www_and_forces_https_on_the_default_port_only() {
    let rules = Rules::with_overrides(vec![
        Override { strip_www: true, force_https: true, ..entry("example.org") },
        Override {
            strip_www: true,
            force_https: true,
            strip_query_params: vec!["x".into()],
            ..entry("www.example.com")
        },
    ]);
    for (input, expected) in [
        ("http://www.example.org/", "https://example.org/"),
        ("http://www.www.example.org/", "https://example.org/"),
        ("http://example.org:8080/", "http://example.org:8080/"),
        ("http://example.org:80/", "https://example.org/"),
        ("https://wwwx.example.org/", "https://wwwx.example.org/"),
        // An override of www.… rules what it makes of it, and nothing beside it.
        ("http://www.example.com/?x=1", "https://example.com/"),
        ("http://example.com/?x=1", "https://example.com/"),
        ("http://a.example.com/?x=1", "http://a.example.com/?x=1"),
    ] {
        assert_eq!(check(input, &rules), expected);
    }
}

#[test]
fn www_is_kept_where_only_a_public_suffix_would_remain() {
    let rules = Rules::with_overrides(vec![Override { strip_www: true, ..entry("co.uk") }]);
    assert_eq!(check("https://www.co.uk/", &rules), "https://www.co.uk/");
    assert_eq!(check("https://www.example.co.uk/", &rules), "https://example.co.uk/");
}

#[test]
fn kept_names_win_and_an_override_replaces_a_systems_own_names() {
    let rules = Rules::with_overrides(vec![Override {
        strip_query_params: vec!["q".into()],
        strip_query_prefixes: vec!["x_".into()],
        keep_query_params: vec!["ref".into(), "utm_id".into(), "x_1".into()],
        ..entry("linkedin.com")
    }]);
    assert_eq!(
        check("https://linkedin.com/?ref=1&utm_id=2&utm_source=3&x_1=4&X_2=5&Q=6&trk=7", &rules),
        "https://linkedin.com/?ref=1&trk=7&utm_id=2&x_1=4"
    );
    assert_eq!(normal("https://linkedin.com/?trk=7&TrackingId=8&refId=9&id=1"), "https://linkedin.com/?id=1");
}

#[test]
fn known_systems_name_their_postings() {
    let uuid = "0b5bd1a1-3c4d-4e5f-8a9b-0c1d2e3f4a5b";
    let with_uuid = |text: &str| text.replace("{uuid}", uuid);
    for (input, expected, identity) in [
        (
            "https://boards.greenhouse.io/Acme/jobs/123?gh_src=x&t=9",
            "https://boards.greenhouse.io/Acme/jobs/123",
            "greenhouse:acme:123",
        ),
        (
            "https://job-boards.eu.greenhouse.io/acme/jobs/123#app",
            "https://job-boards.eu.greenhouse.io/acme/jobs/123",
            "greenhouse:acme:123",
        ),
        (
            "https://boards.greenhouse.io/embed/job_app?token=123&for=acme",
            "https://boards.greenhouse.io/embed/job_app?for=acme&token=123",
            "greenhouse:acme:123",
        ),
        (
            "https://jobs.lever.co/acme/{uuid}/apply?lever-source=Indeed&lever-origin=x",
            "https://jobs.lever.co/acme/{uuid}",
            "lever:acme:{uuid}",
        ),
        (
            "https://acme.wd3.myworkdayjobs.com/en-US/Careers/job/Bonn/Postdoc-in-X_JR-1001/apply/applyManually?source=LinkedIn",
            "https://acme.wd3.myworkdayjobs.com/en-US/Careers/job/Bonn/Postdoc-in-X_JR-1001",
            "workday:acme:JR-1001",
        ),
        (
            "https://acme.wd3.myworkdayjobs.com/Careers/job/Postdoc_in_X_R1",
            "https://acme.wd3.myworkdayjobs.com/Careers/job/Postdoc_in_X_R1",
            "workday:acme:R1",
        ),
        (
            "https://wd5.myworkdaysite.com/en-US/recruiting/acme/ext/job/Bonn/PhD_R2",
            "https://wd5.myworkdaysite.com/en-US/recruiting/acme/ext/job/Bonn/PhD_R2",
            "workday:acme:R2",
        ),
        (
            "https://jobs.ashbyhq.com/acme/{uuid}/application?src=x",
            "https://jobs.ashbyhq.com/acme/{uuid}",
            "ashby:acme:{uuid}",
        ),
        (
            "https://jobs.smartrecruiters.com/AcmeLabs/743999-postdoc?trid=1",
            "https://jobs.smartrecruiters.com/AcmeLabs/743999-postdoc",
            "smartrecruiters:acmelabs:743999",
        ),
        (
            "https://acme.jobs.personio.de/job/42?_pc=9&language=en",
            "https://acme.jobs.personio.de/job/42?language=en",
            "personio:acme:42",
        ),
        (
            "https://acme.teamtailor.com/de/jobs/42-phd-in-x/applications/new?promotion=1",
            "https://acme.teamtailor.com/de/jobs/42-phd-in-x",
            "teamtailor:acme:42",
        ),
        (
            "https://acme.na.teamtailor.com/jobs/42",
            "https://acme.na.teamtailor.com/jobs/42",
            "teamtailor:acme:42",
        ),
        (
            "https://acme.recruitee.com/o/phd-position/c/new?source=x",
            "https://acme.recruitee.com/o/phd-position",
            "recruitee:acme:phd-position",
        ),
        (
            "https://apply.workable.com/acme/j/abc123def0/apply/",
            "https://apply.workable.com/acme/j/abc123def0",
            "workable:acme:ABC123DEF0",
        ),
        (
            "https://acme.bamboohr.com/careers/37?source=x",
            "https://acme.bamboohr.com/careers/37",
            "bamboohr:acme:37",
        ),
        (
            "https://acme.bamboohr.com/jobs/view.php?id=37",
            "https://acme.bamboohr.com/jobs/view.php?id=37",
            "bamboohr:acme:37",
        ),
        (
            "https://careers-acme.icims.com/jobs/1234/postdoc/job?mobile=false&width=900",
            "https://careers-acme.icims.com/jobs/1234/postdoc/job",
            "icims:acme:1234",
        ),
        (
            "https://career5.successfactors.eu/career?company=Acme&career_job_req_id=77&_s.crb=x",
            "https://career5.successfactors.eu/career?career_job_req_id=77&company=Acme",
            "successfactors:acme:77",
        ),
        (
            "https://acme.taleo.net/careersection/ex/jobdetail.ftl?job=190A&tz=GMT",
            "https://acme.taleo.net/careersection/ex/jobdetail.ftl?job=190A",
            "taleo:acme:190A",
        ),
        (
            "https://euraxess.ec.europa.eu/jobs/123456",
            "https://euraxess.ec.europa.eu/jobs/123456",
            "euraxess:123456",
        ),
        (
            "https://euraxess.ec.europa.eu/jobs/hosting/5",
            "https://euraxess.ec.europa.eu/jobs/hosting/5",
            "euraxess:hosting:5",
        ),
        (
            "https://www.jobs.ac.uk/job/DKX123/research-associate",
            "https://www.jobs.ac.uk/job/DKX123/research-associate",
            "jobs.ac.uk:DKX123",
        ),
        (
            "https://de.linkedin.com/jobs/view/phd-in-x-at-acme-3812345678?trk=a&position=1",
            "https://de.linkedin.com/jobs/view/phd-in-x-at-acme-3812345678",
            "linkedin:3812345678",
        ),
        (
            "https://www.linkedin.com/jobs/view/3812345678/apply/",
            "https://www.linkedin.com/jobs/view/3812345678",
            "linkedin:3812345678",
        ),
        (
            "https://academicpositions.com/ad/eth-zurich/2026/postdoc/123456",
            "https://academicpositions.com/ad/eth-zurich/2026/postdoc/123456",
            "academicpositions:123456",
        ),
        ("https://inspirehep.net/jobs/2750000", "https://inspirehep.net/jobs/2750000", "inspire:2750000"),
        (
            "https://academicjobsonline.org/ajo/jobs/29000/apply",
            "https://academicjobsonline.org/ajo/jobs/29000",
            "academicjobsonline:29000",
        ),
    ] {
        let (input, expected, identity) = (with_uuid(input), with_uuid(expected), with_uuid(identity));
        assert_eq!(normal(&input), expected, "{input}");
        let url = normalize(&input, &Rules::builtin()).unwrap();
        assert_eq!(url.source_identity(), Some(identity.as_str()), "{input}");
    }
}

#[test]
fn listings_and_look_alikes_have_no_identity_and_keep_their_tails() {
    for input in [
        "https://boards.greenhouse.io/acme",
        "https://jobs.lever.co/acme/apply",
        "https://jobs.lever.co/acme/not-a-uuid/apply",
        "https://www.recruitee.com/o/phd",
        "https://evil-lever.co/acme/0b5bd1a1-3c4d-4e5f-8a9b-0c1d2e3f4a5b/apply",
        "https://lever.co.evil.org/acme/0b5bd1a1-3c4d-4e5f-8a9b-0c1d2e3f4a5b/apply",
        "https://www.linkedin.com/jobs/view/phd/apply",
        "https://euraxess.ec.europa.eu/jobs/search",
        "https://example.org/jobs/1/apply",
        "https://acme.wd3.myworkdayjobs.com/Careers/login",
    ] {
        assert_eq!(normal(input), input);
        assert_eq!(normalize(input, &Rules::builtin()).unwrap().source_identity(), None, "{input}");
    }
}

#[test]
fn hosts_of_mixed_scripts_are_flagged_and_kept() {
    for (input, is_mixed) in [
        ("https://xn--pple-43d.com/", true),
        ("https://аpple.com/", true),
        ("https://рaypal.example/", true),
        ("https://пример.рф/", false),
        ("https://müller-2.de/", false),
        ("https://日本ひらカタabc.jp/", false),
        ("https://한국漢字.kr/", false),
        ("https://пример.example/", false),
        ("https://example.org/", false),
    ] {
        let url = normalize(input, &Rules::builtin()).unwrap();
        assert_eq!(url.flags().contains(&FLAG_MIXED_SCRIPT_HOST), is_mixed, "{input}");
    }
}

#[test]
fn registrable_domains_follow_the_public_suffix_list() {
    for (host, domain) in [
        ("cs.ox.ac.uk", Some("ox.ac.uk")),
        ("example.org", Some("example.org")),
        ("a.b.example.org.", Some("example.org")),
        ("acme.github.io", Some("acme.github.io")),
        ("co.uk", None),
        ("org", None),
        ("127.0.0.1", None),
        ("[::1]", None),
    ] {
        assert_eq!(registrable_domain(host).as_deref(), domain, "{host}");
    }
    assert!(same_registrable_domain("127.0.0.1", "127.0.0.1"));
    assert!(!same_registrable_domain("127.0.0.1", "127.0.0.2"));
    assert!(same_registrable_domain("a.example.org", "b.example.org"));
    assert!(!same_registrable_domain("ox.ac.uk", "cam.ac.uk"));
}

#[test]
fn a_hash_is_sha256_in_lower_hex() {
    let url = normalize("https://example.org/", &Rules::builtin()).unwrap();
    // printf https://example.org/ | sha256sum
    let hex = "8198d1bac40a1033653a78e48800cefc9e6b974ff075c66e5548b5c1e145a2b0";
    assert_eq!(url.hash().to_string(), hex);
    assert_eq!(hex.parse(), Ok(url.hash()));
    assert_eq!(UrlHash::from_slice(url.hash().as_bytes()), Some(url.hash()));
    assert_eq!(UrlHash::from_slice(&[0; 31]), None);
    for bad in ["", &hex[1..], &hex.to_uppercase(), &format!("{}g", &hex[1..])] {
        assert_eq!(bad.parse::<UrlHash>(), Err(HashError));
    }
}

#[test]
fn the_parts_of_a_normal_form_are_its_own() {
    let url = normalize("https://Example.org:8443/a/b?x=1#/y", &Rules::builtin()).unwrap();
    assert_eq!((url.host(), url.path(), url.path_and_rest()), ("example.org", "/a/b", "/a/b?x=1#/y"));
    assert!(!url.is_root());
    assert!(normalize("https://example.org?x=1", &Rules::builtin()).unwrap().is_root());
}

/// Pieces that have broken normal forms before, glued together at random.
const SCHEMES: &[&str] = &["http://", "https://", "HTTP://", "https:\\\\", "https:", "http:///"];
const HOSTS: &[&str] = &[
    "example.org",
    "EXAMPLE.org.",
    "www.example.org",
    "www.www.example.org",
    "müller.de",
    "jobs.lever.co",
    "boards.greenhouse.io",
    "acme.wd3.myworkdayjobs.com",
    "acme.teamtailor.com",
    "www.linkedin.com",
    "127.0.0.1",
    "0x7f.1",
    "[::1]",
    "аpple.com",
    "apply.workable.com",
    "acme.jobs.personio.de",
    "www.overridden.com",
    "overridden.com",
];
const PORTS: &[&str] = &["", "", "", ":80", ":443", ":", ":8080"];
const SEGMENTS: &[&str] = &[
    "a",
    "A",
    "..",
    ".",
    "%2e",
    "%2E%2e",
    "",
    "jobs",
    "job",
    "123",
    "42-phd",
    "x_R1",
    "apply",
    "login",
    "de",
    "j",
    "view",
    "0b5bd1a1-3c4d-4e5f-8a9b-0c1d2e3f4a5b",
    ";jsessionid=1",
    "..;jsessionid=2",
    ".;jsessionid",
    "%6a;%6Asessionid=1",
    "%",
    "%%34",
    "1",
    "%41",
    "%c3%a4",
    "%ff",
    "ä",
    " ",
    "[",
    "|",
    "^",
    "'",
    "\"",
    "%2f",
    "%5c",
    "\\",
    "applications",
    "new",
    ";v=1",
];
const NAMES: &[&str] = &[
    "a",
    "b",
    "B",
    "c",
    "utm_source",
    "UTM_x",
    "utm%5Fy",
    "ref",
    "gclid",
    "amp;a",
    "amp;amp;b",
    "AMP;utm_z",
    "trk",
    "t",
    "source",
    "lever-x",
    "",
    "%",
    "%zz",
    "ä",
    "q[]",
    "jsessionid",
    "keep",
    "drop",
    "a b",
    "'",
];
const VALUES: &[&str] = &["", "=", "=1", "=2", "=%7e", "=%2b+", "=a=b", "=%ff", "=%", "=ü", "=?/", "=;"];
const FRAGMENTS: &[&str] = &["", "", "#", "#top", "#/a", "#!b%7e", "#/%", "#/ä #"];

fn pick(rng: &mut impl Rng, from: &[&'static str]) -> &'static str {
    from[rng.random_range(0..from.len())]
}

fn awkward_rules() -> Rules {
    Rules::with_overrides(vec![
        Override {
            strip_www: true,
            force_https: true,
            strip_query_params: vec!["drop".into()],
            keep_query_params: vec!["ref".into(), "keep".into()],
            ..entry("www.overridden.com")
        },
        Override { strip_www: true, strip_query_prefixes: vec!["a".into()], ..entry("example.org") },
        Override { keep_query_params: vec!["trk".into()], ..entry("linkedin.com") },
    ])
}

/// A million addresses, made of what has broken normal forms before: each is idempotent and does not depend on
/// the order of different names.
#[test]
fn a_million_awkward_addresses_are_idempotent_and_independent_of_the_order_of_names() {
    const EACH: usize = 500_000;
    let read: usize = std::thread::scope(|scope| {
        let halves = [7, 11].map(|seed| scope.spawn(move || awkward_addresses(seed, EACH)));
        halves.into_iter().map(|half| half.join().expect("the seed's addresses pass")).sum()
    });
    assert!(read > EACH, "only {read} of {} were addresses at all", 2 * EACH);
}

/// How many of `count` random addresses have a normal form; panics if one is not what it should be.
fn awkward_addresses(seed: u64, count: usize) -> usize {
    let mut rng = StdRng::seed_from_u64(seed);
    let rules = [Rules::builtin(), awkward_rules()];
    let (mut url, mut turned) = (String::new(), String::new());
    let mut read = 0;
    for turn in 0..count {
        let rules = &rules[turn % 2];
        url.clear();
        url.push_str(pick(&mut rng, SCHEMES));
        url.push_str(pick(&mut rng, HOSTS));
        url.push_str(pick(&mut rng, PORTS));
        for _ in 0..rng.random_range(0..5) {
            url.push('/');
            url.push_str(pick(&mut rng, SEGMENTS));
            if rng.random_bool(0.1) {
                url.push_str(pick(&mut rng, SEGMENTS));
            }
        }
        // Different names only: pairs of one name keep their order, so they must not be turned.
        let first = rng.random_range(0..NAMES.len());
        let pairs: Vec<(&str, &str)> = (0..rng.random_range(0..4))
            .map(|index| (NAMES[(first + 7 * index) % NAMES.len()], pick(&mut rng, VALUES)))
            .collect();
        let fragment = pick(&mut rng, FRAGMENTS);
        turned.clone_from(&url);
        for (index, (name, value)) in pairs.iter().enumerate() {
            url.extend([if index == 0 { "?" } else { "&" }, name, value]);
        }
        for (index, (name, value)) in pairs.iter().rev().enumerate() {
            turned.extend([if index == 0 { "?" } else { "&" }, name, value]);
        }
        url.push_str(fragment);
        turned.push_str(fragment);
        let Ok(once) = normalize(&url, rules) else { continue };
        read += 1;
        assert_eq!(normalize(once.as_str(), rules).as_ref(), Ok(&once), "{url:?}");
        let names: Vec<&str> = pairs.iter().map(|(name, _)| without_amp(name)).collect();
        let names_differ = names.iter().enumerate().all(|(index, name)| !names[..index].contains(name));
        if pairs.len() > 1 && names_differ {
            assert_eq!(normalize(&turned, rules).as_ref(), Ok(&once), "{turned:?}");
        }
    }
    read
}

/// A name as the normal form sees it.
fn without_amp(mut name: &str) -> &str {
    while name.get(..4).is_some_and(|head| head.eq_ignore_ascii_case("amp;")) {
        name = &name[4..];
    }
    name
}

proptest! {
    #[test]
    fn any_text_is_refused_or_idempotent(text in "(https?://)?\\PC{0,60}") {
        if let Ok(once) = normalize(&text, &awkward_rules()) {
            prop_assert_eq!(normalize(once.as_str(), &awkward_rules()), Ok(once));
        }
    }

    #[test]
    fn what_is_read_keeps_its_host_and_stays_short(path in "[/a-zA-Z0-9%;.&=?#\\[\\]äß \\\\-]{0,80}") {
        let url = normalize(&format!("https://example.org/{path}"), &Rules::builtin()).unwrap();
        prop_assert_eq!(url.host(), "example.org");
        prop_assert!(url.as_str().len() <= URL_LENGTH_MAX);
        prop_assert!(url.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
    }
}
