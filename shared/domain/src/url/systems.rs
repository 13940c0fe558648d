//! The built-in table of applicant systems and boards: their own tracking names, the tails of their application
//! forms, and how an address of theirs names a posting.
//!
//! A posting's identity is the system's own key, written alike by every way that leads to it: the board's page,
//! the form behind it, and each language of either.

/// One system or board.
#[derive(Debug)]
pub(super) struct System {
    /// First part of the identity.
    name: &'static str,
    /// The domains it answers under, each with all domains below it.
    domains: &'static [&'static str],
    /// Names that track, besides those stripped everywhere.
    strip: &'static [&'static str],
    /// Beginnings of such names.
    strip_prefixes: &'static [&'static str],
    /// Ends of a path behind a posting that lead to its form.
    tails: &'static [&'static str],
    forms: &'static [Form],
}

impl System {
    /// Whether the (lower-case) name is one of the system's own tracking names.
    pub(super) fn strips(&self, name: &str) -> bool {
        self.strip.contains(&name) || self.strip_prefixes.iter().any(|prefix| name.starts_with(prefix))
    }
}

/// One form of address that names a posting.
///
/// `path` is matched segment by segment: a literal (without case), `*` any one segment, `**` (last) any rest,
/// `<locale?>` an optional `en` or `en-GB`, `<tenant>`, and for the id `<num>` digits, `<num->` digits before a
/// hyphen or the end, `<-num>` digits after the last hyphen, `<_id>` what follows the last underscore, `<uuid>`,
/// `<code>` letters and digits (upper-cased), `<word>` anything of letters, digits, hyphens and underscores.
#[derive(Debug)]
struct Form {
    path: &'static str,
    tenant: Tenant,
    /// The query's name that holds the id where the path does not.
    query_id: Option<&'static str>,
}

#[derive(Debug, Clone, Copy)]
enum Tenant {
    /// Ids are unique in the whole system.
    None,
    /// `<tenant>` of the path.
    Path,
    /// The host's first label.
    Label,
    /// The host's first label behind a portal's name: `careers-acme` is `acme`.
    PortalLabel,
    /// A name of the query.
    Query(&'static str),
    /// A part of the id space that has a name.
    Fixed(&'static str),
}

const fn form(tenant: Tenant, path: &'static str) -> Form {
    Form { path, tenant, query_id: None }
}

const fn query_form(tenant: Tenant, path: &'static str, id: &'static str) -> Form {
    Form { path, tenant, query_id: Some(id) }
}

const fn system(name: &'static str, domains: &'static [&'static str]) -> System {
    System { name, domains, strip: &[], strip_prefixes: &[], tails: &[], forms: &[] }
}

use Tenant::{Fixed, Label, None as NoTenant, Path, PortalLabel, Query};

/// Domains do not overlap (a test sees to it), so that the order means nothing.
static SYSTEMS: &[System] = &[
    System {
        strip: &["t", "gh_src", "source"],
        forms: &[
            form(Path, "<tenant>/jobs/<num>"),
            query_form(Query("for"), "embed/job_app", "token"),
            query_form(Query("for"), "embed/job_app", "gh_jid"),
            query_form(Path, "<tenant>", "gh_jid"),
        ],
        ..system("greenhouse", &["greenhouse.io"])
    },
    System {
        strip_prefixes: &["lever-"],
        tails: &["apply", "thanks"],
        forms: &[form(Path, "<tenant>/<uuid>")],
        ..system("lever", &["lever.co"])
    },
    System {
        strip: &["source", "src"],
        tails: &[
            "apply",
            "apply/applymanually",
            "apply/autofillwithresume",
            "apply/usemylastapplication",
            "login",
        ],
        forms: &[
            form(Label, "<locale?>/*/job/*/<_id>"),
            form(Label, "<locale?>/*/job/<_id>"),
            form(Label, "<locale?>/*/details/<_id>"),
        ],
        ..system("workday", &["myworkdayjobs.com", "myworkdayjobs-impl.com"])
    },
    System {
        strip: &["source", "src"],
        tails: &["apply", "apply/applymanually", "apply/autofillwithresume", "apply/usemylastapplication"],
        forms: &[
            form(Path, "<locale?>/recruiting/<tenant>/*/job/*/<_id>"),
            form(Path, "<locale?>/recruiting/<tenant>/*/job/<_id>"),
        ],
        ..system("workday", &["myworkdaysite.com"])
    },
    System {
        strip: &["src", "source"],
        tails: &["application"],
        forms: &[form(Path, "<tenant>/<uuid>")],
        ..system("ashby", &["ashbyhq.com"])
    },
    System {
        strip: &["trid", "src", "oga", "sid", "dcr_ci", "_rmt"],
        forms: &[
            form(Path, "<tenant>/<num->"),
            form(Path, "<tenant>/<uuid>"),
            form(Path, "oneclick-ui/company/<tenant>/publication/<uuid>"),
        ],
        ..system("smartrecruiters", &["smartrecruiters.com"])
    },
    System {
        strip: &["_pc", "gh"],
        tails: &["apply"],
        forms: &[form(Label, "<locale?>/job/<num>")],
        ..system("personio", &["jobs.personio.de", "jobs.personio.com"])
    },
    System {
        strip: &["promotion", "rt", "referrer"],
        tails: &["applications/new"],
        forms: &[form(Label, "<locale?>/jobs/<num->")],
        ..system("teamtailor", &["teamtailor.com"])
    },
    System {
        strip: &["source", "referrer", "src"],
        tails: &["c/new"],
        forms: &[form(Label, "o/<word>"), form(Label, "l/*/o/<word>")],
        ..system("recruitee", &["recruitee.com"])
    },
    System {
        strip: &["src", "source"],
        tails: &["apply"],
        forms: &[form(NoTenant, "view/<word>/**")],
        ..system("workable-jobs", &["jobs.workable.com"])
    },
    System {
        strip: &["src", "source"],
        tails: &["apply"],
        forms: &[form(Path, "<tenant>/j/<code>")],
        ..system("workable", &["apply.workable.com"])
    },
    System {
        strip: &["source", "src"],
        forms: &[
            form(Label, "careers/<num>"),
            form(Label, "jobs/view/<num>"),
            query_form(Label, "jobs/view.php", "id"),
            query_form(Label, "jobs/embed2.php", "id"),
        ],
        ..system("bamboohr", &["bamboohr.com"])
    },
    System {
        strip: &[
            "mobile",
            "width",
            "height",
            "bga",
            "needsredirect",
            "jan1offset",
            "jun1offset",
            "in_iframe",
            "hub",
            "iis",
            "iisn",
            "hashed",
        ],
        forms: &[
            form(PortalLabel, "jobs/<num>"),
            form(PortalLabel, "jobs/<num>/*"),
            form(PortalLabel, "jobs/<num>/*/*"),
        ],
        ..system("icims", &["icims.com"])
    },
    System {
        strip: &["_s.crb", "source", "src"],
        forms: &[
            query_form(Query("company"), "career", "career_job_req_id"),
            query_form(Query("company"), "sfcareer/jobreqcareer", "jobid"),
        ],
        ..system(
            "successfactors",
            &["successfactors.eu", "successfactors.com", "sapsf.eu", "sapsf.com", "sapsf.cn"],
        )
    },
    System {
        strip: &["src", "sns_id", "tz", "tzname"],
        forms: &[
            query_form(Label, "careersection/*/jobdetail.ftl", "job"),
            query_form(Label, "careersection/jobdetail.ftl", "job"),
            query_form(Label, "careersection/*/jobapply.ftl", "job"),
            query_form(Query("org"), "*/ats/careers/v2/viewrequisition", "rid"),
            query_form(Query("org"), "ats/careers/v2/viewrequisition", "rid"),
            query_form(Query("org"), "*/ats/careers/requisition.jsp", "rid"),
            query_form(Query("org"), "ats/careers/requisition.jsp", "rid"),
        ],
        ..system("taleo", &["taleo.net"])
    },
    System {
        strip: &["src", "utm"],
        tails: &["apply", "apply/email"],
        forms: &[
            form(Label, "hcmui/candidateexperience/*/sites/*/job/<code>"),
            form(Label, "hcmui/candidateexperience/*/sites/*/requisitions/job/<code>"),
            form(Label, "hcmui/candidateexperience/*/sites/*/requisitions/preview/<code>"),
        ],
        ..system("oraclecloud", &["oraclecloud.com"])
    },
    System {
        strip: &["source", "lighttheme", "mode"],
        forms: &[form(Path, "<tenant>/cw/*/job/<num>/**"), form(Path, "<tenant>/*/*/job/<num>/**")],
        ..system("pageup", &["careers.pageuppeople.com"])
    },
    System {
        strip: &["__jvst", "__jvsd", "nl"],
        tails: &["apply"],
        forms: &[form(Path, "<tenant>/job/<word>"), form(Path, "careers/<tenant>/job/<word>")],
        ..system("jobvite", &["jobs.jobvite.com"])
    },
    System {
        strip: &["source", "src"],
        forms: &[
            form(Label, "apply/<word>"),
            form(Label, "apply/<word>/*"),
            form(Label, "apply/jobs/details/<word>"),
        ],
        ..system("jazzhr", &["applytojob.com"])
    },
    System {
        strip: &["source"],
        tails: &["apply"],
        forms: &[form(Label, "p/<word>"), form(Label, "*/p/<word>")],
        ..system("breezy", &["breezy.hr"])
    },
    System {
        strip: &["source"],
        tails: &["applications/new"],
        forms: &[form(Label, "<locale?>/postings/<uuid>")],
        ..system("pinpoint", &["pinpointhq.com"])
    },
    System {
        tails: &["apply"],
        forms: &[form(Label, "job/<num>"), form(Label, "job/<num>/*"), form(Label, "<locale?>/jobs/<num>/*")],
        ..system("softgarden", &["softgarden.io"])
    },
    System {
        strip: &["sourcetype", "source"],
        tails: &["apply"],
        forms: &[form(Path, "companies/<tenant>/<num->")],
        ..system("join", &["join.com"])
    },
    System { forms: &[form(NoTenant, "<num>")], ..system("interfolio", &["apply.interfolio.com"]) },
    System {
        tails: &["apply"],
        forms: &[form(NoTenant, "ajo/jobs/<num>"), form(NoTenant, "ajo/jobs/<num>/apply")],
        ..system("academicjobsonline", &["academicjobsonline.org"])
    },
    System {
        strip: &["pk_campaign", "pk_source"],
        forms: &[
            form(NoTenant, "jobs/<num>"),
            form(Fixed("hosting"), "jobs/hosting/<num>"),
            form(Fixed("funding"), "jobs/funding/<num>"),
        ],
        ..system("euraxess", &["euraxess.ec.europa.eu"])
    },
    System {
        strip: &["source", "uc"],
        forms: &[form(NoTenant, "job/<code>"), form(NoTenant, "job/<code>/*")],
        ..system("jobs.ac.uk", &["jobs.ac.uk"])
    },
    System {
        strip: &[
            "trk",
            "trackingid",
            "refid",
            "originaltrackingid",
            "trkinfo",
            "trkemail",
            "midtoken",
            "midsig",
            "lipi",
            "lici",
            "ebp",
            "originalsubdomain",
            "position",
            "pagenum",
            "originalreferer",
            "eid",
            "savedsearchid",
            "alertaction",
            "origin",
            "searchid",
            "otptoken",
            "ssoid",
        ],
        tails: &["apply"],
        forms: &[form(NoTenant, "jobs/view/<-num>"), form(NoTenant, "comm/jobs/view/<-num>")],
        ..system("linkedin", &["linkedin.com"])
    },
    System {
        forms: &[form(NoTenant, "ad/*/*/*/<num>"), form(NoTenant, "*/ad/*/*/*/<num>")],
        ..system(
            "academicpositions",
            &[
                "academicpositions.com",
                "academicpositions.de",
                "academicpositions.se",
                "academicpositions.no",
                "academicpositions.fi",
                "academicpositions.dk",
                "academicpositions.nl",
                "academicpositions.be",
                "academicpositions.fr",
                "academicpositions.it",
                "academicpositions.es",
                "academicpositions.at",
                "academicpositions.ch",
                "academicpositions.co.uk",
                "academicpositions.eu",
            ],
        )
    },
    System { forms: &[form(NoTenant, "jobs/<num>")], ..system("inspire", &["inspirehep.net"]) },
    System {
        strip: &["tracktypeid", "linksource"],
        forms: &[
            form(NoTenant, "naturecareers/job/<num>"),
            form(NoTenant, "naturecareers/job/<num>/*"),
            form(NoTenant, "naturecareers/job/*/<num>"),
        ],
        ..system("naturecareers", &["nature.com"])
    },
    System {
        strip: &["tracktypeid", "linksource"],
        forms: &[form(NoTenant, "unijobs/listing/<num>"), form(NoTenant, "unijobs/listing/<num>/*")],
        ..system("unijobs", &["timeshighereducation.com"])
    },
    System {
        strip: &[
            "from",
            "vjk",
            "tk",
            "advn",
            "adid",
            "xkcb",
            "xpse",
            "xfps",
            "hidecmpheader",
            "utm",
            "sjdu",
            "acatk",
            "pub",
            "camk",
        ],
        forms: &[query_form(NoTenant, "viewjob", "jk"), query_form(NoTenant, "m/viewjob", "jk")],
        ..system("indeed", &["indeed.com"])
    },
    System {
        forms: &[
            query_form(NoTenant, "details.cfm", "jobcode"),
            query_form(NoTenant, "jobdetails.cfm", "jobcode"),
        ],
        ..system("higheredjobs", &["higheredjobs.com"])
    },
    System {
        tails: &["apply"],
        forms: &[form(NoTenant, "job/<word>")],
        ..system("jobrxiv", &["jobrxiv.org"])
    },
];

/// The system that answers under a host, if it is a known one.
pub(super) fn system_of(host: &str) -> Option<&'static System> {
    SYSTEMS.iter().find(|system| {
        system.domains.iter().any(|domain| {
            host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    })
}

/// Drops `/apply` and its kin, but only behind what names a posting by itself.
pub(super) fn drop_tails(system: &System, host: &str, path: &mut String, query: &str) {
    'again: loop {
        for tail in system.tails {
            let Some(cut) = path.len().checked_sub(tail.len() + 1) else { continue };
            if cut > 0
                && path.as_bytes()[cut] == b'/'
                && path[cut + 1..].eq_ignore_ascii_case(tail)
                && identity(system, host, &path[..cut], query).is_some()
            {
                path.truncate(cut);
                continue 'again;
            }
        }
        return;
    }
}

/// `<system>:<tenant>:<id>`, or `<system>:<id>` where ids are unique in the whole system.
pub(super) fn identity(system: &System, host: &str, path: &str, query: &str) -> Option<String> {
    let segments: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    system.forms.iter().find_map(|form| {
        let pattern: Vec<&str> = form.path.split('/').collect();
        let mut found = Found::default();
        if !walk(&pattern, &segments, &mut found) {
            return None;
        }
        let id = match form.query_id {
            Some(name) => from_query(query, name)?.to_owned(),
            None => found.id?,
        };
        let tenant = match form.tenant {
            Tenant::None => None,
            Tenant::Fixed(name) => Some(name.to_owned()),
            Tenant::Path => Some(found.tenant?),
            Tenant::Query(name) => Some(from_query(query, name)?.to_owned()),
            Tenant::Label => Some(label(host)?.to_owned()),
            Tenant::PortalLabel => Some(behind_portal(label(host)?).to_owned()),
        };
        if !is_word(&id) || tenant.as_deref().is_some_and(|tenant| !is_word(tenant)) {
            return None;
        }
        Some(match tenant {
            Some(tenant) => format!("{}:{}:{id}", system.name, tenant.to_ascii_lowercase()),
            None => format!("{}:{id}", system.name),
        })
    })
}

/// The host's first label, where it names a customer.
fn label(host: &str) -> Option<&str> {
    let (label, _) = host.split_once('.')?;
    (label != "www").then_some(label)
}

fn behind_portal(label: &str) -> &str {
    match label.split_once('-') {
        Some((portal, tenant))
            if !tenant.is_empty()
                && ["career", "careers", "jobs"].iter().any(|name| portal.ends_with(name)) =>
        {
            tenant
        }
        _ => label,
    }
}

fn from_query<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, value)| key.eq_ignore_ascii_case(name) && !value.is_empty())
        .map(|(_, value)| value)
}

/// What may stand in an identity: a colon would make its parts ambiguous.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'%' | b'~' | b'+')
        })
}

#[derive(Default)]
struct Found {
    tenant: Option<String>,
    id: Option<String>,
}

fn walk(pattern: &[&str], segments: &[&str], found: &mut Found) -> bool {
    let Some((token, pattern_rest)) = pattern.split_first() else {
        return segments.is_empty();
    };
    match *token {
        "**" => return true,
        "<locale?>" => {
            return segments
                .split_first()
                .is_some_and(|(first, rest)| is_locale(first) && walk(pattern_rest, rest, found))
                || walk(pattern_rest, segments, found);
        }
        _ => {}
    }
    let Some((segment, rest)) = segments.split_first() else { return false };
    if segment.is_empty() {
        return false;
    }
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let id = match *token {
        "*" => None,
        "<tenant>" => {
            found.tenant = Some((*segment).to_owned());
            None
        }
        "<num>" if digits(segment) => Some((*segment).to_owned()),
        "<num->" => match segment.split('-').next() {
            Some(head) if digits(head) => Some(head.to_owned()),
            _ => return false,
        },
        "<-num>" => match segment.rsplit('-').next() {
            Some(tail) if digits(tail) => Some(tail.to_owned()),
            _ => return false,
        },
        "<_id>" => match segment.rsplit_once('_') {
            Some((title, id)) if !title.is_empty() && !id.is_empty() => Some(id.to_ascii_uppercase()),
            _ => return false,
        },
        "<uuid>" => match uuid::Uuid::try_parse(segment) {
            Ok(id) if segment.len() == 36 => Some(id.to_string()),
            _ => return false,
        },
        "<code>" if segment.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            Some(segment.to_ascii_uppercase())
        }
        "<word>" if is_word(segment) => Some((*segment).to_owned()),
        literal if literal.eq_ignore_ascii_case(segment) => None,
        _ => return false,
    };
    if id.is_some() {
        found.id = id;
    }
    walk(pattern_rest, rest, found)
}

fn is_locale(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    match bytes.len() {
        2 => bytes.iter().all(u8::is_ascii_alphabetic),
        5 => {
            matches!(bytes[2], b'-' | b'_')
                && bytes[..2].iter().all(u8::is_ascii_alphabetic)
                && bytes[3..].iter().all(u8::is_ascii_alphabetic)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_host_has_two_systems() {
        for (index, system) in SYSTEMS.iter().enumerate() {
            for domain in system.domains {
                let others = SYSTEMS.iter().enumerate().filter(|(other, _)| *other != index);
                for other in others.flat_map(|(_, other)| other.domains) {
                    let is_below =
                        domain.strip_suffix(other).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                    assert!(!is_below, "{domain} is under {other}");
                }
            }
        }
    }

    #[test]
    fn the_table_is_written_in_lower_case_and_names_are_not_stripped_that_identify() {
        for system in SYSTEMS {
            for text in
                system.strip.iter().chain(system.strip_prefixes).chain(system.tails).chain(system.domains)
            {
                assert_eq!(text.to_ascii_lowercase(), **text);
            }
            for form in system.forms {
                let named =
                    [form.query_id, if let Tenant::Query(name) = form.tenant { Some(name) } else { None }];
                for name in named.into_iter().flatten() {
                    assert!(!system.strips(name), "{} strips {name}", system.name);
                }
                assert!(
                    form.query_id.is_some()
                        || form.path.contains("<num")
                        || form.path.contains("num>")
                        || form.path.contains("<uuid>")
                        || form.path.contains("<_id>")
                        || form.path.contains("<code>")
                        || form.path.contains("<word>"),
                    "{}",
                    form.path
                );
            }
        }
    }
}
