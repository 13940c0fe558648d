//! The kind of opportunity, by words in its title.

use std::sync::LazyLock;

use super::words::{Phrases, fold};
use crate::posting::OpportunityKind;

/// Words by kind, folded, in the order in which they decide: a "PhD fellowship" is a PhD, a
/// "postdoctoral fellow" a postdoc. A star stands for any ending; words begin at a word's
/// beginning.
#[rustfmt::skip]
const WORDS: &[(OpportunityKind, &[&str])] = &[
    (OpportunityKind::Postdoc, &[
        "postdoc*", "post-doc*", "post doc*", "post-phd", "postdoktor*", "post-doktor*", "assegno di ricerca", "assegni di ricerca",
        "assegnista", "assegnisti", "tutkijatohtori*", "tohtoritutkija*", "contrato postdoctoral", "habilitand*", "jovenes doctores", "postdok*",
    ]),
    (OpportunityKind::Phd, &[
        "phd*", "ph.d*", "ph. d*", "doctoral", "doctorate", "doctoral candidate*", "doktorand*", "doktorat*", "promotion", "promotions*",
        "promovierende*", "praedoc*", "pradoc*", "predoc*", "pre-doc*", "doctorant*", "these", "theses", "these de doctorat", "doctorat*", "contrat doctoral", "doctorado", "doctorando*",
        "doctoranda*", "tesis doctoral", "dottorato", "dottorand*", "dottorati", "doutoramento", "doutorado", "doutorand*", "bolsa de doutoramento",
        "promovendus", "promovendi", "aio", "forskarstuder*", "doktorandtjanst*", "ph.d.-stipend*", "phd-stipend*", "stipendiat*",
        "vaitoskirjatutkija*", "tohtorikoulutettava*", "jatko-opiskelija*", "dphil", "early stage researcher", "early-stage researcher", "esr",
        "universitetsstipendiat*", "predoctoral*",
    ]),
    (OpportunityKind::Faculty, &[
        "professor*", "prof.", "professur*", "juniorprofess*", "professeur*", "lecturer*", "senior lecturer*", "lectureship*", "faculty position*",
        "faculty", "reader in", "tenure track*", "tenure-track*", "chair of", "chair in", "endowed chair", "dozent*", "hochschullehrer*", "maitre de conferences", "maitresse de conferences",
        "maitre-sse de conferences", "mcf", "enseignant-chercheur", "enseignante-chercheuse", "catedratic*", "profesor*", "titular de universidad", "professore*", "ricercatore a tempo determinato", "rtt", "rtd*", "docente",
        "universitair docent", "universitair hoofddocent", "hoogleraar", "universitetslektor*", "lektor*", "adjunkt*", "forsteamanuensis",
        "professorat*", "yliopistonlehtori*", "professori*", "apulaisprofessori*", "docent", "bitradande lektor*",
    ]),
    // Employed by the year, whatever the word says; the fellowship is the stipend.
    (OpportunityKind::ResearchStaff, &["research fellow", "research fellows", "senior research fellow"]),
    (OpportunityKind::Internship, &[
        "internship*", "intern", "interns", "trainee*", "traineeship*", "praktik*", "praktikum*", "werkstudent*", "studentische hilfskraft",
        "studentische hilfskrafte", "stud. hilfskraft", "student assistant*", "summer student*", "summer school*", "stage", "stages", "stagiaire*", "stage de", "practicas",
        "becario*", "tirocinio", "tirocini", "tirocinante*", "estagio*", "estagiari*", "stageplaats", "harjoittelija*", "master thesis", "master's thesis",
        "masterarbeit*", "bachelorarbeit*", "abschlussarbeit*", "examensarbete*", "student job*", "undergraduate research",
    ]),
    (OpportunityKind::Call, &[
        "call for papers", "call for proposals", "call for applications", "call for abstracts", "call for expressions of interest", "call for participation",
        "call for nominations", "call for tenders", "open call", "call for projects", "cfp", "appel a projets", "appel a candidatures", "appel a communications", "appel a contributions",
        "convocatoria*", "bando", "bandi", "avviso pubblico", "edital", "chamada", "ausschreibung von fordermitteln", "aufruf", "oproep", "utlysning*", "indkaldelse", "haku avoinna", "joint transnational call", "call 20*",
    ]),
    (OpportunityKind::Grant, &[
        "grant", "grants", "research grant*", "seed fund*", "seed funding", "project funding", "funding scheme*", "funding programme", "funding program", "forderung", "forderprogramm*", "forderlinie",
        "sachbeihilfe", "subvention*", "financement", "ayuda", "ayudas", "subvencion*", "finanziamento", "finanziamenti", "financiamento", "subsidie*", "bidrag", "anslag",
        "forskningsmidler", "apuraha", "apurahat", "rahoitus", "prize", "award", "awards",
    ]),
    (OpportunityKind::Fellowship, &[
        "fellowship*", "fellow", "fellows", "scholarship*", "stipend*", "stipendium", "stipendien", "bourse", "bourses", "beca", "becas", "borsa di studio", "borse di studio",
        "bolsa", "bolsas", "beurs", "beurzen", "residency", "visiting scholar*", "visiting researcher*",
    ]),
    (OpportunityKind::ResearchStaff, &[
        "research assistant*", "research associate*", "research scientist*", "research engineer*", "research technician*", "research fellow*", "research software engineer*",
        "research staff", "research officer*", "research manager*", "research specialist*", "research technologist*", "research position*", "researcher*", "scientist*", "lab manager*", "laboratory technician*", "lab technician*",
        "laboratory manager*", "laboratory assistant*", "staff scientist*", "data scientist*", "data steward*", "data manager*", "bioinformatician*", "statistician*", "technician*", "scientific officer*", "scientific programmer*", "principal investigator*", "group leader*", "team leader*",
        "wissenschaftliche mitarbeit*", "wissenschaftlicher mitarbeit*", "wissenschaftliche*r mitarbeit*", "wiss. mitarbeit*", "wissenschaftler*", "forscher*", "laborant*", "nachwuchsgruppenleit*", "gruppenleit*",
        "technische*r assistent*", "technischer assistent*", "technische assistent*", "bta", "mta", "chemisch-technische*", "universitatsassistent*", "projektmitarbeit*", "research",
        "chercheur*", "chercheuse*", "ingenieur de recherche", "ingenieur d'etudes", "ingenieure de recherche", "ingenieur*e de recherche", "charge de recherche", "chargee de recherche", "technicien*", "assistant ingenieur",
        "investigador*", "tecnico de laboratorio", "personal investigador", "tecnico de apoyo", "ricercator*", "ricercatrice*", "tecnologo*", "collaboratore di ricerca", "investigacao", "bolseiro de investigacao", "bolsa de investigacao",
        "onderzoeker*", "onderzoeksmedewerker*", "analist*", "forskare*", "forskningsassistent*", "forskningsingenjor*", "forsker*", "forskningsassistenter", "videnskabelig assistent*", "videnskabelig medarbejder*", "laborant*",
        "tutkija*", "tutkimusavustaja*", "projektitutkija*", "laboratoriomestari*",
    ]),
];

/// All words, with the place of their kind in [`WORDS`] as their number.
static PHRASES: LazyLock<Phrases> = LazyLock::new(|| {
    let words = WORDS.iter().enumerate();
    Phrases::numbered(words.flat_map(|(number, (_, words))| words.iter().map(move |word| (*word, number))))
});

/// The kind that a title names, if it names one.
pub(crate) fn kind_of_title(title: &str) -> Option<OpportunityKind> {
    let folded = fold(title);
    // "PhD (m/f/d)", "Doktorand:in", "wissenschaftliche*r": marks of gender part no words.
    let folded = folded.replace(['*', ':', '_'], " ").replace("/in", "").replace("(in)", "");
    let number = PHRASES.matches(&folded).map(|(_, number)| number).min()?;
    WORDS.get(number).map(|(kind, _)| *kind)
}

/// The kind by title, then by employment type.
pub(crate) fn kind_of(title: &str, employment: &[String]) -> Option<OpportunityKind> {
    kind_of_title(title)
        .or_else(|| employment.iter().any(|word| word == "INTERN").then_some(OpportunityKind::Internship))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_in_many_languages_name_their_kind() {
        use OpportunityKind::*;
        for (title, kind) in [
            ("PhD position in Soil Physics", Some(Phd)),
            ("Ph.D. student (f/m/d)", Some(Phd)),
            ("Doktorand*in in der Informatik", Some(Phd)),
            ("Doctorant en chimie", Some(Phd)),
            ("Thèse : matériaux quantiques", Some(Phd)),
            ("Postdoctoral Fellow", Some(Postdoc)),
            ("Post-doc in Ecology", Some(Postdoc)),
            ("Assegno di ricerca in fisica", Some(Postdoc)),
            ("PhD Fellowship in Law", Some(Phd)),
            ("Assistant Professor of Physics", Some(Faculty)),
            ("W2-Professur für Logik", Some(Faculty)),
            ("Maître de conférences", Some(Faculty)),
            ("Universitetslektor i historia", Some(Faculty)),
            ("Humboldt-style Fellowship", Some(Fellowship)),
            ("Seed funding for young teams", Some(Grant)),
            ("Call for Papers: Maps", Some(Call)),
            ("Research Fellow in Hydrology", Some(ResearchStaff)),
            ("Internship in Bioinformatics", Some(Internship)),
            ("Praktikum Labor", Some(Internship)),
            ("Research Software Engineer", Some(ResearchStaff)),
            ("Wissenschaftliche*r Mitarbeiter*in (m/w/d)", Some(ResearchStaff)),
            ("Ingénieur de recherche", Some(ResearchStaff)),
            ("Väitöskirjatutkija", Some(Phd)),
            ("Gardener", None),
            ("Stagecraft and international relations", None),
        ] {
            assert_eq!(kind_of_title(title), kind, "{title}");
        }
        assert_eq!(kind_of("Lab helper", &["INTERN".to_owned()]), Some(Internship));
    }
}
