//! Phrases that say what a page is: closed, an error, a list, a form.

use std::collections::HashSet;
use std::sync::LazyLock;

use super::words::{Phrases, fold};

static CLOSED_PHRASES: LazyLock<Phrases> = LazyLock::new(|| Phrases::new(CLOSED));
static NOT_FOUND_PHRASES: LazyLock<Phrases> = LazyLock::new(|| Phrases::new(NOT_FOUND));
static POSTING_PHRASES: LazyLock<Phrases> = LazyLock::new(|| Phrases::new(POSTING_WORDS));

/// A posting that no longer takes applications. Looked for only in titles, headings and status
/// regions: in a body text such words tell of something else.
#[rustfmt::skip]
const CLOSED: &[&str] = &[
    "no longer accepting applications", "no longer accepts applications", "not accepting applications", "applications are closed", "applications are now closed",
    "applications closed", "application closed", "application period has ended", "application period is over", "application deadline has passed", "deadline has passed", "deadline expired",
    "deadline has expired", "position has been filled", "position is filled", "position filled", "vacancy has been filled", "job has been filled", "role has been filled",
    "this job has expired", "job has expired", "this job is closed", "job is closed", "job closed", "this vacancy is closed", "vacancy is closed", "vacancy closed", "vacancy has closed", "vacancy has expired",
    "this position is closed", "position is closed", "position closed", "position is no longer available", "job is no longer available", "vacancy is no longer available", "no longer available",
    "posting has expired", "posting is closed", "posting expired", "posting has been closed", "listing has expired", "job expired", "offer has expired", "offer expired", "call is closed", "call closed", "call has closed", "this call is now closed",
    "advertisement has expired", "this role is closed", "closed for applications", "is now closed", "has been closed", "no longer open", "no longer active",
    "bewerbungsfrist abgelaufen", "bewerbungsfrist ist abgelaufen", "frist ist abgelaufen", "stelle ist bereits besetzt", "stelle ist besetzt", "stelle wurde besetzt", "bereits besetzt",
    "nicht mehr verfugbar", "stellenangebot ist abgelaufen", "ausschreibung ist beendet", "ausschreibung beendet", "ausschreibung ist abgelaufen", "ausschreibung abgelaufen", "bewerbung nicht mehr moglich",
    "keine bewerbungen mehr", "bewerbungsphase beendet", "anzeige ist abgelaufen", "nicht mehr aktiv", "stelle ist nicht mehr ausgeschrieben",
    "offre expiree", "cette offre a expire", "offre pourvue", "poste pourvu", "cette offre n'est plus disponible", "n'est plus disponible", "offre cloturee", "candidatures closes", "candidatures cloturees", "appel clos", "appel cloture", "les candidatures sont closes", "n'est plus en ligne", "poste a ete pourvu",
    "oferta caducada", "oferta cerrada", "plazo cerrado", "convocatoria cerrada", "convocatoria finalizada", "plazo finalizado", "ya no esta disponible", "puesto cubierto", "vacante cerrada", "inscripcion cerrada",
    "offerta scaduta", "bando scaduto", "bando chiuso", "candidature chiuse", "posizione chiusa", "non e piu disponibile", "termine scaduto", "annuncio scaduto", "selezione chiusa", "concorso scaduto",
    "vaga encerrada", "concurso encerrado", "candidaturas encerradas", "oferta expirada", "prazo terminado", "ja nao esta disponivel", "inscricoes encerradas", "vaga preenchida",
    "vacature is gesloten", "vacature gesloten", "vacature is vervuld", "vacature vervuld", "niet meer beschikbaar", "sollicitatietermijn is verstreken", "vacature is verlopen", "vacature verlopen", "niet langer beschikbaar",
    "ansokningstiden har gatt ut", "tjansten ar tillsatt", "annonsen ar stangd", "inte langre tillganglig", "ansokan ar stangd", "annonsen har upphort", "ansokningstiden har passerat",
    "ansogningsfristen er udlobet", "stillingen er besat", "ikke laengere tilgaengelig", "opslaget er lukket", "jobopslaget er udlobet", "ansogningsfristen er overskredet",
    "soknadsfristen er utlopt", "soknadsfristen er ute", "stillingen er besatt", "ikke lenger tilgjengelig", "stillingen er ikke lenger aktiv", "annonsen er utlopt", "utlysningen er avsluttet",
    "hakuaika on paattynyt", "haku on paattynyt", "paikka on taytetty", "ei ole enaa voimassa", "hakuaika paattynyt", "ilmoitus on vanhentunut",
];

/// Words that mean the same where they stand alone or as a mark: "[CLOSED] PhD position".
#[rustfmt::skip]
const CLOSED_MARKS: &[&str] = &[
    "closed", "expired", "filled", "position filled", "archived", "deadline passed", "closed vacancy", "closed call", "abgelaufen", "geschlossen", "besetzt", "beendet", "expire", "expiree", "pourvu", "pourvue", "clos", "close", "cloture", "cloturee", "cerrado", "cerrada",
    "finalizado", "finalizada", "caducado", "caducada", "scaduto", "scaduta", "chiuso", "chiusa", "encerrado", "encerrada", "expirado", "expirada", "gesloten", "verlopen", "vervuld", "stangd", "tillsatt", "avslutad", "utgangen",
    "lukket", "besat", "udlobet", "utlopt", "avsluttet", "besatt", "paattynyt", "suljettu", "taytetty",
];

/// An error page that answers 200.
#[rustfmt::skip]
const NOT_FOUND: &[&str] = &[
    "page not found", "not found", "404 error", "error 404", "404 not found", "http 404", "page cannot be found", "page can't be found", "page could not be found", "page couldn't be found", "page you requested",
    "page you are looking for", "page does not exist", "page doesn't exist", "page no longer exists", "page is missing", "page unavailable", "does not exist", "doesn't exist", "could not be found", "couldn't find", "cannot find", "can't find", "something went wrong", "an error occurred", "an error has occurred",
    "internal server error", "service unavailable", "bad gateway", "gateway timeout", "access denied", "403 forbidden", "forbidden", "unauthorized", "are you a robot", "are you human", "just a moment", "attention required", "checking your browser", "verify you are human", "security check", "under maintenance", "site maintenance", "temporarily unavailable", "oops",
    "seite nicht gefunden", "seite konnte nicht gefunden werden", "seite wurde nicht gefunden", "nicht gefunden", "seite existiert nicht", "fehler 404", "zugriff verweigert", "wartungsarbeiten", "seite nicht vorhanden", "seite existiert leider nicht",
    "page introuvable", "page non trouvee", "introuvable", "page n'existe pas", "page demandee n'existe", "erreur 404", "acces refuse",
    "pagina no encontrada", "no encontrada", "pagina no existe", "no se ha encontrado", "no se encuentra", "acceso denegado",
    "pagina non trovata", "non trovata", "pagina non esiste", "errore 404", "accesso negato",
    "pagina nao encontrada", "nao encontrada", "pagina nao existe", "erro 404",
    "pagina niet gevonden", "niet gevonden", "pagina bestaat niet",
    "sidan hittades inte", "sidan kunde inte hittas", "sidan finns inte", "hittades inte", "kunde inte hittas", "siden blev ikke fundet", "siden findes ikke", "siden kunne ikke findes", "siden ble ikke funnet", "siden finnes ikke", "fant ikke siden", "finner ikke siden", "sivua ei loytynyt", "sivua ei loydy",
];

/// A form before the content.
#[rustfmt::skip]
const LOGIN: &[&str] = &[
    "log in", "login", "sign in", "sign up", "log on", "register", "create account", "anmelden", "anmeldung", "einloggen", "connexion", "se connecter", "iniciar sesion", "acceder", "accedi", "entrar", "iniciar sessao", "inloggen", "logga in", "log ind", "logg inn", "kirjaudu", "kirjaudu sisaan", "forgot password", "reset password", "cookie settings", "privacy policy", "datenschutz", "datenschutzerklarung", "impressum", "imprint", "legal notice", "terms of use", "terms and conditions", "mentions legales", "about us", "contact", "contact us", "kontakt", "uber uns", "a propos",
];

/// Titles of lists of postings.
#[rustfmt::skip]
const LISTING: &[&str] = &[
    "jobs", "all jobs", "job listings", "job openings", "job vacancies", "job offers", "job search", "job board", "vacancies", "open vacancies", "current vacancies", "open positions", "open position list", "current openings", "current opportunities", "openings", "positions available", "available positions", "job opportunities",
    "phd positions", "postdoc positions", "phd opportunities", "phd vacancies", "research jobs", "academic jobs", "research positions", "career opportunities", "careers", "work with us", "join us", "funding opportunities", "funding calls", "open calls", "calls for proposals", "calls for applications", "calls for papers", "scholarships", "fellowships", "grants", "opportunities", "search results", "latest jobs", "vacancies at", "jobs at", "jobs in", "careers at",
    "stellenangebote", "offene stellen", "stellenausschreibungen", "aktuelle stellen", "stellenmarkt", "jobborse", "freie stellen", "ausschreibungen", "karriere", "promotionsstellen", "stellenborse",
    "offres d'emploi", "nos offres", "offres de these", "offres de stage", "postes a pourvoir", "postes ouverts", "appels a projets", "appels a candidatures", "offres", "recrutements", "appels en cours",
    "ofertas de empleo", "ofertas de trabajo", "empleos", "convocatorias", "vacantes", "plazas", "becas", "trabaja con nosotros", "offerte di lavoro", "lavora con noi", "posizioni aperte", "bandi", "concorsi", "bandi e concorsi", "vagas", "ofertas de emprego", "concursos", "bolsas", "oportunidades", "editais",
    "vacatures", "alle vacatures", "werken bij", "openstaande vacatures", "lediga jobb", "lediga tjanster", "lediga anstallningar", "jobba hos oss", "ledige stillinger", "ledige job", "ledige jobber", "jobopslag", "avoimet tyopaikat", "avoimet paikat", "avoimet tehtavat", "tyopaikat",
];

/// Words in a page's text or links that belong to a posting.
#[rustfmt::skip]
const POSTING_WORDS: &[&str] = &[
    "apply now", "how to apply", "to apply", "apply by", "your application", "application deadline", "closing date", "we are looking for", "we seek", "we are seeking", "job description", "requirements", "qualifications", "responsibilities", "your profile", "your tasks", "we offer", "cover letter", "curriculum vitae", "salary", "fixed-term", "full-time", "part-time", "successful candidate", "applicants", "vacancy", "the position", "this position", "this role", "eligible", "eligibility", "stipend", "supervisor", "equal opportunity",
    "jetzt bewerben", "ihre bewerbung", "bewerbungsunterlagen", "ihr profil", "ihre aufgaben", "wir bieten", "wir suchen", "anforderungen", "stellenausschreibung", "vollzeit", "teilzeit", "befristet", "entgeltgruppe", "vergutung", "schwerbehinderte",
    "postuler", "candidature", "candidatures", "profil recherche", "lettre de motivation", "missions", "contrat", "remuneration", "poste a pourvoir", "recrute", "competences requises",
    "solicitud", "requisitos", "se ofrece", "perfil", "funciones", "contrato", "carta de motivacion", "candidatos", "domanda di ammissione", "requisiti", "candidati", "candidatura", "borsa", "candidaturas", "candidatos", "bolsa", "carta de motivacao",
    "solliciteren", "solliciteer", "wij bieden", "wij zoeken", "functie-eisen", "motivatiebrief", "ansokan", "arbetsuppgifter", "kvalifikationer", "anstallning", "vi soker", "vi erbjuder", "ansogning", "vi soger", "kvalifikationer", "ansaettelse", "vi tilbyder", "soknad", "arbeidsoppgaver", "kvalifikasjoner", "vi tilbyr", "vi soker", "hakemus", "tehtavat", "edellytamme", "tarjoamme", "palkka",
];

/// Words that begin a link to the application.
#[rustfmt::skip]
const APPLY_LINKS: &[&str] = &[
    "apply", "apply now", "apply here", "apply online", "apply for this job", "apply for this position", "apply for this role", "apply for job", "apply for position", "start application", "submit application", "submit your application", "application form", "online application", "apply today", "apply via", "go to application", "link to application",
    "jetzt bewerben", "bewerben", "online bewerben", "hier bewerben", "zur bewerbung", "jetzt online bewerben", "online-bewerbung", "bewerbungsformular", "zum bewerbungsformular", "jetzt hier bewerben",
    "postuler", "postuler en ligne", "je postule", "candidater", "deposer sa candidature", "postuler a cette offre", "deposer une candidature", "formulaire de candidature",
    "solicitar", "inscribirse", "aplicar", "presentar solicitud", "inscribete", "candidati", "candidati ora", "invia candidatura", "presenta domanda", "candidatar-se", "candidatar", "candidate-se", "candidatura online",
    "solliciteer", "solliciteren", "solliciteer nu", "solliciteer direct", "direct solliciteren", "ansok", "ansok nu", "ansok har", "sok jobbet", "sok tjansten", "ansog", "ansog nu", "sog stillingen", "ansog online", "sok stillingen", "sok na", "sok her", "hae", "hae paikkaa", "hae nyt", "tayta hakemus",
];

/// Whether a title, heading or status line says that the posting is closed.
pub(crate) fn is_closed(text: &str) -> bool {
    let folded = fold(text);
    if CLOSED_PHRASES.are_in(&folded) {
        return true;
    }
    let core = folded.trim_matches(|c: char| !c.is_alphanumeric());
    let core =
        core.strip_prefix("status").map(|rest| rest.trim_start_matches([':', ' ', '-'])).unwrap_or(core);
    if CLOSED_MARKS.contains(&core) {
        return true;
    }
    // A mark in brackets anywhere, or before a colon or dash at the beginning, or behind one at the end.
    let in_brackets = ["[", "(", "{"].iter().any(|open| {
        folded.split(open).skip(1).any(|rest| {
            let inner = rest.split([']', ')', '}']).next().unwrap_or_default();
            CLOSED_MARKS.contains(&inner.trim())
        })
    });
    let head = folded.split([':', '-', '|', '!']).next().unwrap_or_default().trim();
    let tail = folded.rsplit([':', '-', '|', '!']).next().unwrap_or_default().trim();
    in_brackets
        || (folded.len() > head.len() && CLOSED_MARKS.contains(&head))
        || (folded.len() > tail.len() && CLOSED_MARKS.contains(&tail))
}

/// Whether a text in a status region, or a heading, is nothing but such a statement, and so no title.
pub(crate) fn is_closed_notice(text: &str) -> bool {
    let folded = fold(text);
    CLOSED_PHRASES.are_in(&folded)
        && folded.chars().count() <= 120
        && super::kind::kind_of_title(text).is_none()
}

/// Whether a title or heading is that of an error page.
pub(crate) fn is_not_found(text: &str) -> bool {
    let folded = fold(text);
    let core = folded.trim_matches(|c: char| !c.is_alphanumeric());
    core == "404"
        || core == "error"
        || core.starts_with("404 ")
        || (folded.chars().count() <= 120 && NOT_FOUND_PHRASES.are_in(&folded))
}

/// Whether a title is that of a form or a page about the site.
pub(crate) fn is_form(text: &str) -> bool {
    let folded = fold(text);
    let core = folded.split(['|', '-']).next().unwrap_or_default();
    LOGIN.contains(&core.trim_matches(|c: char| !c.is_alphanumeric()))
}

/// Whether a title or heading is that of a list of postings.
pub(crate) fn is_listing(text: &str) -> bool {
    let folded = fold(text);
    folded.split(['|', '-', ':', '·', '»']).any(|part| {
        let part = part.trim_matches(|c: char| !c.is_alphanumeric());
        // "Vacancies at the institute", "12 open positions", "Our current vacancies".
        let words = part.split(' ').count();
        LISTING.contains(&part)
            || (words <= 7
                && LISTING.iter().any(|phrase| {
                    part.strip_prefix(phrase).is_some_and(is_tail)
                        || part.strip_suffix(phrase).is_some_and(is_lead)
                }))
    })
}

fn is_tail(rest: &str) -> bool {
    [
        " at ", " in ", " of ", " from ", " for ", " an der ", " am ", " bei ", " der ", " im ", " a l'",
        " au ", " de ", " du ", " en ", " di ", " presso ", " bij ", " van ", " hos ", " pa ", " ved ", " (",
        " und ", " and ", " et ", " & ",
    ]
    .iter()
    .any(|tail| rest.starts_with(tail))
}

fn is_lead(rest: &str) -> bool {
    let lead = rest.trim();
    lead.bytes().all(|byte| byte.is_ascii_digit())
        || [
            "our",
            "all",
            "current",
            "the",
            "open",
            "latest",
            "find",
            "search",
            "unsere",
            "alle",
            "aktuelle",
            "nos",
            "toutes nos",
            "nuestras",
            "le nostre",
            "as nossas",
            "onze",
            "vara",
            "vore",
            "vare",
        ]
        .contains(&lead)
            && rest.ends_with(' ')
}

/// How many different words of postings a text holds, counted up to `count_max`.
pub(crate) fn posting_words(folded: &str, count_max: usize) -> usize {
    let mut seen = HashSet::new();
    POSTING_PHRASES.matches(folded).filter(|(_, index)| seen.insert(*index)).take(count_max).count()
}

/// Whether a link's text leads to an application.
pub(crate) fn is_apply_link(text: &str) -> bool {
    let folded = fold(text);
    let core = folded.trim_matches(|c: char| !c.is_alphanumeric());
    APPLY_LINKS.contains(&core)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_is_read_from_phrases_and_marks_only() {
        for (text, closed) in [
            ("This position has been filled.", true),
            ("We are no longer accepting applications", true),
            ("[CLOSED] PhD position in Physics", true),
            ("PhD position in Physics (expired)", true),
            ("Closed: PhD position", true),
            ("Status: closed", true),
            ("Die Bewerbungsfrist ist abgelaufen", true),
            ("Cette offre n’est plus disponible", true),
            ("Søknadsfristen er utløpt", true),
            ("Postdoc in closed-loop control", false),
            ("PhD position: closed orbits in phase space", false),
            ("Applications are open", false),
        ] {
            assert_eq!(is_closed(text), closed, "{text}");
        }
    }

    #[test]
    fn error_pages_forms_and_lists_are_told_by_their_titles() {
        for text in
            ["404", "Page not found | Site", "Seite nicht gefunden", "Error 404", "Page introuvable", "Oops!"]
        {
            assert!(is_not_found(text), "{text}");
        }
        for text in ["PhD position: 404 days of winter", "Postdoc in finding lost pages"] {
            assert!(!is_not_found(text), "{text}");
        }
        for text in ["Log in", "Anmelden | Portal", "Login - Site"] {
            assert!(is_form(text), "{text}");
        }
        for text in [
            "Vacancies",
            "Open positions | Institute",
            "Jobs at the Institute",
            "Offene Stellen",
            "12 open positions",
            "Our current vacancies",
            "Offres d'emploi",
        ] {
            assert!(is_listing(text), "{text}");
        }
        for text in [
            "PhD position in Physics",
            "Head of Careers Service",
            "Fellowship for jobs research",
            "Research grants officer",
        ] {
            assert!(!is_listing(text), "{text}");
        }
    }
}
