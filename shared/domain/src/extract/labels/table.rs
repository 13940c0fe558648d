//! The labels, folded: English, German, French, Spanish, Italian, Portuguese, Dutch, Swedish,
//! Danish, Norwegian, Finnish.

use super::Term;

/// Whole labels, without colon.
#[rustfmt::skip]
pub(super) const LABELS: &[(Term, &[&str])] = &[
    (Term::Deadline, &[
        "deadline", "application deadline", "deadline for application", "deadline for applications", "deadline of application",
        "closing date", "closing date for applications", "applications close", "application closes", "closes", "closes on", "closing on",
        "apply by", "apply before", "last day to apply", "last date to apply", "last application date", "last date for application",
        "application due", "applications due", "application due date", "due date", "deadline date", "submission deadline",
        "full consideration date", "review of applications begins", "expires", "expires on", "expiry date", "expiration date", "valid until",
        "valid through", "open until", "end date of application", "deadline to apply", "close date", "job expires", "call deadline",
        "call closes", "end of application period", "apply until", "applications accepted until", "applications are due",
        "bewerbungsfrist", "bewerbungsschluss", "bewerbungsende", "bewerbung bis", "bewerben bis", "bewerbungen bis", "frist",
        "einsendeschluss", "ende der bewerbungsfrist", "bewerbungstermin", "bewerbungszeitraum bis", "ablaufdatum", "anzeigenschluss",
        "ausschreibungsfrist", "bewerbungsfrist bis", "antragsfrist", "einreichungsfrist", "gultig bis", "ende bewerbungsfrist",
        "date limite", "date limite de candidature", "date limite de depot", "date limite de depot des candidatures", "date limite d'envoi",
        "date limite d'envoi des candidatures", "date limite de postulation", "cloture des candidatures", "date de cloture",
        "cloture", "echeance", "date d'echeance", "candidater avant le", "date limite pour postuler", "fin de publication",
        "date de fin de candidature", "delai de candidature", "delai de postulation", "date limite de reception des candidatures",
        "fecha limite", "fecha limite de solicitud", "fecha limite de presentacion", "fecha limite de inscripcion", "plazo",
        "plazo de solicitud", "plazo de presentacion", "plazo de presentacion de solicitudes", "fecha de cierre", "cierre", "vencimiento",
        "fin de plazo", "plazo de inscripcion", "fecha limite para aplicar",
        "scadenza", "data di scadenza", "scadenza bando", "scadenza domande", "termine", "termine di presentazione",
        "termine per la presentazione delle domande", "scadenza presentazione domande", "data scadenza", "scadenza candidature",
        "prazo", "prazo de candidatura", "prazo de candidaturas", "data limite", "data limite de candidatura", "data de encerramento",
        "prazo limite", "fim do prazo", "inscricoes ate", "encerramento", "prazo de inscricao",
        "sollicitatiedeadline", "sluitingsdatum", "solliciteren voor", "reageren voor", "uiterste sollicitatiedatum", "sluit op",
        "solliciteer voor", "einddatum", "reactietermijn", "uiterlijk solliciteren", "deadline sollicitatie", "inzenddatum",
        "sista ansokningsdag", "sok senast", "ansok senast", "ansokan senast", "sista ansokningsdatum", "ansokningstid", "sista dag att ansoka",
        "ansogningsfrist", "frist for ansogning", "ansogningsfristen", "sidste frist", "ansog senest",
        "soknadsfrist", "frist for soknad", "sok innen", "soknadsfristen", "sok senest",
        "hakuaika paattyy", "hakuaika", "viimeinen hakupaiva", "hae viimeistaan", "haku paattyy",
    ]),
    (Term::Organization, &[
        "organisation", "organization", "organisation/company", "organization/company", "company", "employer", "institution", "institute",
        "university", "host institution", "hiring organisation", "hiring organization", "host organisation", "company name", "funder",
        "funding organisation", "funding body", "institution name", "name of the institution", "research organisation",
        "arbeitgeber", "einrichtung", "institut", "universitat", "hochschule", "unternehmen", "firma", "organisationseinheit arbeitgeber",
        "etablissement", "employeur", "organisme", "entreprise", "institution d'accueil", "organisme d'accueil", "universite",
        "institucion", "empresa", "entidad", "universidad", "organismo", "centro", "entidad contratante",
        "ente", "azienda", "istituzione", "universita", "istituto", "ente ospitante", "datore di lavoro",
        "instituicao", "entidade", "universidade", "instituicao de acolhimento", "empregador",
        "werkgever", "organisatie", "instelling", "universiteit", "bedrijf",
        "arbetsgivare", "foretag", "larosate", "arbejdsgiver", "virksomhed", "arbejdsplads", "arbeidsgiver", "virksomhet", "bedrift",
        "tyonantaja", "organisaatio", "yliopisto",
    ]),
    (Term::Location, &[
        "location", "locations", "job location", "work location", "place of work", "workplace", "place of employment", "city", "where",
        "based in", "location of the position", "duty station", "campus", "place", "site", "work place", "working place", "job site",
        "arbeitsort", "standort", "ort", "dienstort", "einsatzort", "beschaftigungsort", "arbeitsplatz", "standorte",
        "lieu", "lieu de travail", "localisation", "ville", "lieu d'exercice", "lieu d'affectation", "affectation",
        "ubicacion", "lugar de trabajo", "localidad", "ciudad", "lugar", "localizacion",
        "sede", "sede di lavoro", "luogo", "luogo di lavoro", "citta",
        "local", "local de trabalho", "localizacao", "cidade",
        "locatie", "standplaats", "plaats", "werklocatie", "werkplek",
        "ort/placering", "placeringsort", "arbetsort", "stationeringsort", "plats", "sted", "arbejdssted", "arbeidssted", "lokation",
        "tjenestested", "stasjoneringssted", "sijainti", "paikkakunta", "tyopaikan sijainti",
    ]),
    (Term::Country, &[
        "country", "land", "pays", "pais", "paese", "maa", "country of work", "nation",
    ]),
    (Term::Salary, &[
        "salary", "salary range", "pay", "pay range", "remuneration", "compensation", "gross salary", "monthly salary", "annual salary",
        "stipend", "base salary", "wage", "salary (gross)", "salary scale",
        "gehalt", "vergutung", "entlohnung", "bezahlung", "lohn", "entgelt", "bruttogehalt", "mindestgehalt", "jahresgehalt",
        "salaire", "remuneration brute", "salaire brut", "gratification", "salaire mensuel",
        "salario", "retribucion", "remuneracion", "sueldo", "retribuzione", "stipendio", "compenso", "remuneracao", "vencimento", "bolsa",
        "salaris", "bruto salaris", "lon", "lonn", "palkka", "palkkaus",
    ]),
    (Term::Employment, &[
        "employment type", "job type", "contract type", "type of contract", "type of employment", "working hours", "employment",
        "position type", "work schedule", "job status", "time type", "contract", "hours", "type", "appointment type", "work type",
        "beschaftigungsart", "anstellungsart", "arbeitszeit", "vertragsart", "beschaftigungsumfang", "stellenumfang", "umfang",
        "anstellungsverhaltnis", "arbeitszeitmodell", "beschaftigungsverhaltnis", "anstellung", "befristung",
        "type de contrat", "type d'emploi", "temps de travail", "contrat", "quotite de travail",
        "tipo de contrato", "jornada", "tipo de empleo", "tipo di contratto", "contratto", "orario", "tipo de emprego", "regime",
        "contractvorm", "dienstverband", "soort dienstverband", "uren", "anstallningsform", "omfattning", "anstallningstyp",
        "ansaettelsesform", "arbejdstid", "stillingstype", "ansettelsesform", "tyosuhde", "tyoaika",
    ]),
    (Term::Identifier, &[
        "reference", "reference number", "ref", "ref no", "ref. no", "reference no", "job id", "job reference", "vacancy reference", "job number",
        "vacancy number", "requisition id", "requisition number", "job code", "position number", "posting number", "reference code", "id",
        "offer number", "call id", "call identifier", "position id", "job ref", "vacancy id", "reference id",
        "kennziffer", "kennzahl", "referenznummer", "stellennummer", "ausschreibungsnummer", "job-id", "referenz", "kennnummer",
        "stellen-id", "kenn-nummer", "chiffre", "referenzcode", "stellenangebotsnummer",
        "numero de reference", "reference de l'offre", "code offre", "numero de poste", "numero de l'offre", "no de reference",
        "referencia", "codigo", "numero de referencia", "riferimento", "codice", "codice bando", "codice concorso",
        "vacaturenummer", "referentienummer", "referensnummer", "diarienummer", "referencenummer", "referansenummer", "viitenumero",
        "stillingsnummer", "id-nummer", "jobnummer",
    ]),
    (Term::Posted, &[
        "posted", "posted on", "date posted", "published", "published on", "publication date", "posting date", "date of publication",
        "advertised", "posted date", "placed on", "opening date", "open date",
        "veroffentlicht", "veroffentlicht am", "veroffentlichungsdatum", "online seit", "ausgeschrieben am", "eingestellt am",
        "date de publication", "publie le", "publiee le", "mise en ligne", "fecha de publicacion", "publicado", "publicado el",
        "data di pubblicazione", "pubblicato il", "pubblicato", "data de publicacao", "publicado em", "geplaatst op", "publicatiedatum",
        "publicerad", "publiceringsdatum", "offentliggjort", "oppslagsdato", "julkaistu",
    ]),
    (Term::Degree, &[
        "degree level", "required degree", "degree", "education", "education level", "required education", "minimum degree", "qualification level",
        "level of education", "required education level", "abschluss", "erforderlicher abschluss", "qualifikation", "studienabschluss",
        "niveau d'etudes", "diplome requis", "diplome", "niveau de diplome", "nivel de estudios", "titulacion", "titulacion requerida",
        "titolo di studio", "titolo richiesto", "habilitacoes", "grau academico", "opleidingsniveau", "utbildningsniva", "utdanningsniva",
        "uddannelsesniveau", "koulutustaso",
    ]),
    (Term::Area, &[
        "research field", "research fields", "research area", "research areas", "field", "fields", "discipline", "disciplines", "subject",
        "subject area", "subject areas", "field of research", "area of research", "scientific field", "fields of study", "field of study",
        "academic field", "forschungsfeld", "forschungsbereich", "fachgebiet", "fachbereich", "fachrichtung", "wissenschaftsgebiet",
        "disziplin", "forschungsgebiet", "domaine", "domaine de recherche", "domaines", "section cnu", "domaine scientifique",
        "area de investigacion", "area", "areas", "campo", "area de conocimiento", "campo de investigacion", "settore",
        "settore scientifico disciplinare", "settore concorsuale", "area cientifica", "vakgebied", "wetenschapsgebied", "onderzoeksgebied",
        "amnesomrade", "amne", "fagomrade", "tieteenala", "forskningsomrade",
    ]),
    (Term::Sector, &["sector", "industry", "branche", "secteur", "secteur d'activite", "bransch", "bransje"]),
    (Term::Other, &[
        "start", "start date", "starting date", "job start date", "expected start date", "earliest start", "duration", "contact", "department", "faculty",
        "division", "category", "categories", "language", "languages", "website", "url", "share", "how to apply", "requirements", "benefits",
        "responsibilities", "supervisor", "number of positions", "vacancies", "eligibility", "funding", "status", "title", "position",
        "beginn", "arbeitsbeginn", "eintrittstermin", "startdatum", "dauer", "laufzeit", "kontakt", "ansprechpartner", "abteilung", "fakultat",
        "kategorie", "sprache", "besetzungszeitpunkt", "anforderungen", "aufgaben", "zum nachstmoglichen zeitpunkt", "bewerbung",
        "date de debut", "debut", "prise de poste", "date de prise de poste", "duree", "duree du contrat", "departement", "service", "langue",
        "comment postuler", "profil", "missions", "fecha de inicio", "inicio", "duracion", "contacto", "departamento", "requisitos",
        "data inizio", "inizio", "durata", "contatti", "dipartimento", "requisiti", "data de inicio", "duracao", "contactos",
        "aanvang", "duur", "afdeling", "faculteit", "contactpersoon", "tilltrade", "varaktighet", "kontaktperson", "institution/afdeling",
        "tiltraedelse", "varighed", "tiltredelse", "varighet", "alkaa", "kesto", "yhteyshenkilo",
    ]),
];

/// Phrases in a sentence that a deadline stands behind.
#[rustfmt::skip]
pub(crate) const DEADLINE_PHRASES: &[&str] = &[
    "application deadline", "deadline for applications", "deadline for application", "deadline for the application", "closing date", "deadline is",
    "deadline to apply", "deadline for submission", "submission deadline", "applications close", "applications are due", "application closes",
    "apply by", "apply before", "apply no later than", "last day to apply", "applications will be accepted until", "applications are accepted until",
    "call closes", "call is open until", "deadline",
    "bewerbungsfrist", "bewerbungsschluss", "bewerbungsende", "einsendeschluss", "bewerben sie sich bis", "bewerbungen bis", "bewerbung bis",
    "einreichfrist", "antragsfrist", "ende der bewerbungsfrist",
    "date limite", "cloture des candidatures", "avant la date du", "delai de candidature", "delai de postulation",
    "fecha limite", "plazo de solicitud", "plazo de presentacion", "fecha de cierre", "plazo finaliza",
    "scadenza", "termine di presentazione", "termine per la presentazione", "entro e non oltre",
    "prazo de candidatura", "data limite", "prazo para candidaturas", "candidaturas ate",
    "sollicitatiedeadline", "sluitingsdatum", "uiterlijk solliciteren", "solliciteer voor", "solliciteren kan tot",
    "sista ansokningsdag", "sok senast", "ansokan senast", "ansokan ska vara inkommen senast",
    "ansogningsfrist", "ansogningsfristen", "soknadsfrist", "soknadsfristen",
    "hakuaika paattyy", "hakuaika", "viimeinen hakupaiva",
];

/// Words that make a label or sentence one about something else than applying.
#[rustfmt::skip]
pub(crate) const NOT_A_DEADLINE: &[&str] = &[
    "reference letter", "letters of reference", "letters of recommendation", "registration", "payment", "notification", "interview", "abstract",
    "referees", "anmeldefrist", "inscription au colloque", "reporting deadline", "deadline extension request", "deadline-driven", "tight deadline",
    "tight deadlines", "meet deadlines",
];

/// Words for applying: a date behind [`BY_WORDS`] in their sentence is a deadline.
#[rustfmt::skip]
pub(crate) const APPLY_WORDS: &[&str] = &[
    "application", "applications", "apply", "submit", "submitted", "cv", "bewerbung", "bewerbungen", "bewerben", "bewerbungsunterlagen", "unterlagen",
    "candidature", "candidatures", "postuler", "candidater", "dossier", "dossiers", "solicitud", "solicitudes", "candidatura", "candidaturas",
    "candidature", "domanda", "domande", "inscricoes", "sollicitatie", "solliciteren", "solliciteer", "sollicitaties", "ansokan", "ansok", "ansoka",
    "ansogning", "ansog", "ansogningen", "soknad", "soknaden", "sok", "hakemus", "hakemukset", "hakemuksen",
];

/// Words that stand directly before the last day.
#[rustfmt::skip]
pub(crate) const BY_WORDS: &[&str] = &[
    "by", "before", "until", "till", "no later than", "not later than", "at the latest by", "on or before", "due on", "by the",
    "bis", "bis zum", "bis spatestens", "bis spatestens zum", "spatestens", "bis einschliesslich", "bis inklusive",
    "avant le", "jusqu'au", "au plus tard le", "d'ici le", "pour le", "hasta el", "antes del", "hasta el dia",
    "entro il", "entro e non oltre il", "entro le ore", "entro", "ate", "ate ao dia", "ate ao", "ate dia", "voor", "uiterlijk", "tot en met", "tot",
    "senast", "senast den", "senest", "senest den", "innen", "inden", "viimeistaan", "mennessa",
];
