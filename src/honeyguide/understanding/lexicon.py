"""Small words of several languages that say something about a query: limits, currencies, units, colours, questions."""

from __future__ import annotations

from typing import Final

__all__ = ["AND", "BETWEEN", "COLOURS", "CURRENCIES", "LOWER", "QUESTIONS", "STOP", "UNITS", "UPPER", "YEARS"]


def _set(words: str) -> frozenset[str]:
    return frozenset(one.strip().replace("_", " ") for one in words.split())


# All folded: lower case, without accents and apostrophes. "_" stands for a space.
UPPER: Final = _set(
    "under below less_than cheaper_than up_to at_most max maximum not_over no_more_than <= < "
    "unter bis bis_zu weniger_als billiger_als gunstiger_als hochstens maximal nicht_uber "
    "moins_de sous jusqua au_plus pas_plus_de menos_de hasta por_debajo_de como_maximo "
    "meno_di sotto sotto_i fino_a al_massimo onder minder_dan tot hoogstens maximaal goedkoper_dan"
)
"""What stands before the most that somebody wants to pay, or the last year."""
LOWER: Final = _set(
    "over above more_than from at_least min minimum starting_at >= > "
    "uber ab mehr_als mindestens von teurer_als plus_de a_partir_de au_moins des mas_de desde al_menos "
    "piu_di oltre almeno a_partire_da boven meer_dan vanaf minstens ten_minste"
)
YEARS: Final = {
    "after": 1, "since": 0, "before": -1, "until": 0, "nach": 1, "seit": 0, "vor": -1, "apres": 1, "depuis": 0,
    "avant": -1, "despues de": 1, "antes de": -1, "dopo il": 1, "dopo": 1, "prima del": -1, "sinds": 0, "na": 1,
    "voor": -1,
}  # fmt: skip
"""What stands before a year, and how far the first or last year wanted is from it; 0 and 1 open a span, else close."""
BETWEEN: Final = _set("between zwischen entre tra fra tussen from von de da van")
AND: Final = _set("and und et y e en to bis a hasta tot - – a")
CURRENCIES: Final = {
    "€": "EUR", "eur": "EUR", "euro": "EUR", "euros": "EUR", "$": "USD", "usd": "USD", "dollar": "USD",
    "dollars": "USD", "dolares": "USD", "dollari": "USD", "£": "GBP", "gbp": "GBP", "pound": "GBP", "pounds": "GBP",
    "quid": "GBP", "¥": "JPY", "jpy": "JPY", "yen": "JPY", "chf": "CHF", "franken": "CHF", "sek": "SEK", "dkk": "DKK",
    "nok": "NOK", "pln": "PLN", "zl": "PLN", "zł": "PLN", "czk": "CZK", "₹": "INR", "inr": "INR", "rupees": "INR",
}  # fmt: skip
UNITS: Final = {
    "mm": ("cm", 0.1), "cm": ("cm", 1.0), "m": ("cm", 100.0), "meter": ("cm", 100.0), "metre": ("cm", 100.0),
    "inch": ("cm", 2.54), "inches": ("cm", 2.54), '"': ("cm", 2.54), "″": ("cm", 2.54), "zoll": ("cm", 2.54),
    "pouces": ("cm", 2.54), "pulgadas": ("cm", 2.54), "pollici": ("cm", 2.54),
    "g": ("g", 1.0), "gr": ("g", 1.0), "gramm": ("g", 1.0), "kg": ("g", 1000.0), "kilo": ("g", 1000.0),
    "lb": ("g", 453.592), "lbs": ("g", 453.592), "oz": ("g", 28.3495),
    "ml": ("ml", 1.0), "cl": ("ml", 10.0), "l": ("ml", 1000.0), "liter": ("ml", 1000.0), "litre": ("ml", 1000.0),
    "mb": ("gb", 0.001), "gb": ("gb", 1.0), "tb": ("gb", 1000.0), "go": ("gb", 1.0),
    "w": ("w", 1.0), "watt": ("w", 1.0), "kw": ("w", 1000.0), "v": ("v", 1.0), "volt": ("v", 1.0),
    "mah": ("mah", 1.0), "ghz": ("mhz", 1000.0), "mhz": ("mhz", 1.0), "hz": ("hz", 1.0), "mp": ("mp", 1.0),
    "min": ("min", 1.0), "minutes": ("min", 1.0), "minuten": ("min", 1.0),
}  # fmt: skip
"""Unit -> what it is a multiple of, and how many of these it is."""
COLOURS: Final = {
    name: canonical
    for canonical, names in {
        "black": "black schwarz schwarze schwarzer schwarzes schwarzen noir noire noirs noires negro negra "
        "negros negras "
        "nero nera neri nere zwart zwarte",
        "white": "white weiss weisse weisser weisses weissen blanc blanche blancs blanches blanco blanca "
        "blancos blancas "
        "bianco bianca bianchi bianche wit witte",
        "red": "red rot rote roter rotes roten rouge rouges rojo roja rojos rojas rosso rossa rossi rosse rood rode",
        "blue": "blue blau blaue blauer blaues blauen bleu bleue bleus bleues azul azules blu blauw blauwe",
        "green": "green grun grune gruner grunes grunen vert verte verts vertes verde verdes verdi groen groene",
        "yellow": "yellow gelb gelbe gelber gelbes gelben jaune jaunes amarillo amarilla amarillos amarillas giallo "
        "gialla gialli gialle geel gele",
        "grey": "grey gray grau graue grauer graues grauen gris grise grises grigio grigia grigi grigie grijs grijze",
        "brown": "brown braun braune brauner braunes braunen marron marrons brun brune marrone marroni bruin bruine",
        "pink": "pink rosa rose roses rosado rosada roze",
        "orange": "orange oranger naranja arancione oranje",
        "purple": "purple violet lila violett violette morado morada viola paars paarse",
        "silver": "silver silber silbern argent plateado argento zilver zilveren",
        "gold": "gold golden dore or dorado oro dorato goud gouden",
        "beige": "beige",
    }.items()
    for name in names.split()
}
"""Folded name of a colour in any of six languages -> its English name."""
QUESTIONS: Final = _set(
    "what who whom whose when where which why how is are does do can should was wer wen wem wann wo wohin "
    "welche welcher "
    "welches warum wieso wie kann ist sind que quel quelle quels quelles qui quand ou pourquoi comment est-ce combien "
    "quien cuando donde cual por_que como cuanto che chi quando dove quale quali perche come quanto wat wie "
    "wanneer waar "
    "welke waarom hoe kan"
)
STOP: Final = _set(
    "the a an of for in with and or to on by der die das ein eine einen und oder fur mit von im in am le la les "
    "l un une "
    "des du de et pour avec en au aux el los las una y o con para por del il lo gli i e di per da con nel het een voor "
    "met van op"
)
"""Words that ask for nothing by themselves."""
