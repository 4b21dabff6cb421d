"""The categories of question that have an answer: each joins a table of facts to the wordings that ask for it."""

import facts
from category import Category

CAPITAL = Category(
    "capital", [(country, capital) for country, capital, _ in facts.COUNTRIES],
    "The capital of {x} is {y}.", "the capital of {x}",
    nouns="""
the capital of {x}
the capital of {x}
the capital of {x}
the capital city of {x}
{x}'s capital
{x}'s capital city
the name of the capital of {x}
the name of {x}'s capital
the city that is the capital of {x}
the capital city in {x}
capital of {x}
{x} capital
the capital for {x}
the capital of the country {x}
---
the country {x}'s capital
the name of the capital city of {x}
the city which is the capital of {x}
""",
    questions="""
which city is the capital of {x}
what city is the capital of {x}
which city is {x}'s capital
which is the capital of {x}
what city serves as the capital of {x}
{x} has which capital
what is {x} capital
capital {x}
{x} capital city
{x}: capital
capital of {x}
{x}'s capital is which city
what capital does {x} have
as for {x}, what is the capital
what is the capital city there in {x}
where is the capital of {x} and what is it called
how is the capital of {x} called
what do they call the capital of {x}
what is {x}'s capital called
in {x}, which city is the capital
---
for {x}, what is the capital
which city has {x} as its capital
the capital of {x} is which city
what is the name of the city that is the capital of {x}
does {x} have a capital, and which
what's the capital called in {x}
""",
    embedded="""
which city is the capital of {x}
what the capital of {x} is called
what the capital of {x} is
---
what city {x} has as its capital
""",
    json='{{"country": "{bare}", "capital": "{y}"}}', aliases=facts.COUNTRY_ALIASES)

CONTINENT = Category(
    "continent", [(country, continent) for country, _, continent in facts.COUNTRIES if continent],
    "{x} is in {y}.", "the continent of {x}",
    nouns="""
the continent of {x}
{x}'s continent
the continent that {x} is in
the continent where {x} is
the continent {x} belongs to
---
the continent on which {x} lies
""",
    questions="""
which continent is {x} in
what continent is {x} in
which continent is {x} on
on which continent is {x}
in which continent is {x}
which continent does {x} belong to
{x} is on which continent
{x} continent
where is {x}
where is {x} on the map
where in the world is {x}
---
what continent does {x} lie on
to which continent does {x} belong
""",
    embedded="which continent {x} is in\nwhere {x} is\n---\non which continent {x} is",
    json='{{"country": "{bare}", "continent": "{y}"}}', aliases=facts.COUNTRY_ALIASES)

COUNTRY_OF = Category(
    "country", [(capital, country) for country, capital, _ in facts.COUNTRIES],
    "{x} is the capital of {y}.", "the country whose capital is {x}",
    nouns="""
the country whose capital is {x}
the country with the capital {x}
the country that has {x} as its capital
the country of which {x} is the capital
---
the country that has the capital {x}
""",
    questions="""
which country has {x} as its capital
what country has {x} as its capital
{x} is the capital of which country
{x} is the capital of what
of which country is {x} the capital
which country's capital is {x}
what is {x} the capital of
which country has the capital {x}
---
{x} is the capital of what country
what country's capital is {x}
""")

SYMBOL = Category(
    "symbol", facts.SYMBOLS, "The chemical symbol for {x} is {y}.", "the chemical symbol for {x}",
    nouns="""
the chemical symbol for {x}
the chemical symbol of {x}
the symbol for {x}
the symbol of {x}
{x}'s chemical symbol
the element symbol for {x}
the symbol of the element {x}
the symbol for the element {x}
---
{x}'s symbol
the chemical symbol for the element {x}
""",
    questions="""
which symbol does {x} have
what symbol stands for {x}
{x} symbol
symbol for {x}
which chemical symbol stands for {x}
how do chemists write {x} as a symbol
what is {x} in the periodic table
{x} has which chemical symbol
---
what chemical symbol does {x} have
which symbol is used for {x}
""", json='{{"element": "{x}", "symbol": "{y}"}}')

LEGS = Category(
    "legs", facts.LEGS, "{x} has {y} legs.", "the legs of {x}",
    nouns="""
the number of legs of {x}
the number of legs {x} has
the number of legs that {x} has
the leg count of {x}
---
the number of legs on {x}
""",
    questions="""
how many legs does {x} have
how many legs does {x} have
how many legs has {x}
how many legs are on {x}
{x} has how many legs
how many legs are there on {x}
what number of legs does {x} have
how many legs for {x}
---
how many legs does {x} walk on
how many legs would {x} have
""", embedded="how many legs {x} has\n---\nhow many legs {x} walks on")

SIDES = Category(
    "sides", facts.SIDES, "{x} has {y} sides.", "the sides of {x}",
    nouns="""
the number of sides of {x}
the number of sides {x} has
the number of sides that {x} has
---
the number of sides in {x}
""",
    questions="""
how many sides does {x} have
how many sides does {x} have
how many sides has {x}
how many sides are in {x}
{x} has how many sides
what number of sides does {x} have
---
how many sides are there in {x}
how many sides would {x} have
""", embedded="how many sides {x} has\n---\nhow many sides there are in {x}")

OPPOSITE = Category(
    "opposite", facts.OPPOSITES, "The opposite of {x} is {y}.", "the opposite of {x}",
    nouns="""
the opposite of {x}
the opposite of {x}
the antonym of {x}
the opposite word of {x}
the word opposite to {x}
the opposite of the word {x}
the contrary of {x}
---
the word that is the opposite of {x}
the antonym for {x}
""",
    questions="""
which word is the opposite of {x}
what word is the opposite of {x}
{x} opposite
opposite of {x}
what is opposite to {x}
{x} is the opposite of what
which word means the opposite of {x}
{x} is the opposite of which word
---
what word means the opposite of {x}
the opposite of {x} is which word
""", json='{{"word": "{x}", "opposite": "{y}"}}')

AUTHOR = Category(
    "author", facts.AUTHORS, "{y} wrote {x}.", "the author of {x}",
    nouns="""
the author of {x}
the writer of {x}
{x}'s author
the name of the author of {x}
the author of the book {x}
the person who wrote {x}
---
the name of the writer of {x}
the one who wrote {x}
""",
    questions="""
who wrote {x}
who wrote {x}
who wrote the book {x}
who is the author of {x}
who was the author of {x}
who is the writer of {x}
by whom was {x} written
{x} was written by whom
who was {x} written by
{x} author
which author wrote {x}
---
which writer wrote {x}
{x} was written by which author
""", embedded="who wrote {x}\nwho the author of {x} is\n---\nwho was the author of {x}",
    json='{{"book": "{x}", "author": "{y}"}}')

COLOUR = Category(
    "colour", facts.COLOURS, "{x} is {y}.", "the colour of {x}",
    nouns="""
the colour of {x}
the color of {x}
the usual colour of {x}
the colour that {x} has
the color that {x} has
---
the usual color of {x}
""",
    questions="""
what colour is {x}
what color is {x}
which colour is {x}
which color is {x}
what colour does {x} have
what color does {x} have
{x} is what colour
{x} color
of what colour is {x}
---
which color does {x} have
{x} has which colour
""", embedded="what colour {x} is\nwhat color {x} is\n---\nwhich colour {x} has")

PLANET = Category(
    "planet", facts.ORDINAL_PLANETS, "The {x} planet from the Sun is {y}.", "the {x} planet from the Sun",
    nouns="""
the {x} planet from the Sun
the {x} planet
the {x} planet of the solar system
the name of the {x} planet
the {x} planet in the solar system
---
the name of the {x} planet from the Sun
""",
    questions="""
which planet is the {x} from the Sun
what planet is {x} from the Sun
which planet comes {x} from the Sun
which planet is the {x}
which is the {x} planet
---
which is the {x} planet from the Sun
what planet comes {x}
""")

UNIT = Category(
    "unit", [(f"{unit} in {whole}", f"{number} {unit} in {whole}") for unit, whole, number in facts.UNITS],
    "There are {y}.", "the number of {x}",
    nouns="""
the number of {x}
the count of {x}
---
the exact number of {x}
""",
    questions="""
how many {x}
how many {x} are there
how many {a} are in {b}
how many {a} are there in {b}
how many {a} does {b} have
how many {a} has {b}
how many {a} make {b}
{b} has how many {a}
---
{b} is how many {a}
how many {a} can be found in {b}
how many {a} would {b} have
""", embedded="how many {a} {b} has\nhow many {a} are in {b}\n---\nhow many {a} there are in {b}",
    pieces=lambda subject: dict(zip("ab", subject.split(" in "))))



def _day_or_month(subject: str) -> dict[str, str]:
    return {"w": "day" if subject in facts.DAYS else "month"}


AFTER = Category(
    "after", [(a, b) for names in (facts.DAYS, facts.MONTHS) for a, b in zip(names, names[1:] + names[:1])],
    "{y} comes after {x}.", "what comes after {x}",
    nouns="""
the one after {x}
the {w} after {x}
the {w} after {x}
the {w} that comes after {x}
the {w} following {x}
the next {w} after {x}
---
the {w} that follows {x}
""",
    questions="""
what comes after {x}
which {w} comes after {x}
what {w} comes after {x}
what {w} is after {x}
which {w} follows {x}
what follows {x}
what is after {x}
which {w} is next after {x}
---
what {w} follows {x}
which {w} comes next after {x}
""", pieces=_day_or_month)

BEFORE = Category(
    "before", [(b, a) for names in (facts.DAYS, facts.MONTHS) for a, b in zip(names, names[1:] + names[:1])],
    "{y} comes before {x}.", "what comes before {x}",
    nouns="""
the one before {x}
the {w} before {x}
the {w} before {x}
the {w} that comes before {x}
the {w} just before {x}
---
the last {w} before {x}
""",
    questions="""
what comes before {x}
which {w} comes before {x}
what {w} comes before {x}
what {w} is before {x}
which {w} is before {x}
what is before {x}
---
what {w} comes right before {x}
which {w} comes just before {x}
""", pieces=_day_or_month)

YOUNG = Category(
    "young", facts.YOUNG, "A baby {x} is called {y}.", "the name of a baby {x}",
    nouns="""
the name of a baby {x}
the name for a baby {x}
the word for a baby {x}
the name of a young {x}
the word for a young {x}
---
the name for a young {x}
""",
    questions="""
what is a baby {x} called
what's a baby {x} called
what do you call a baby {x}
how is a baby {x} called
what is a young {x} called
what do people call a baby {x}
a baby {x} is called what
baby {x} name
---
what do we call a baby {x}
what do you call a young {x}
""", embedded="what a baby {x} is called\n---\nwhat a young {x} is called")


def single_categories() -> list[Category]:
    """Each fact of `facts.SINGLES` is a category of one row."""
    made = []
    for nouns, questions, answer in facts.SINGLES:
        train, _, held = nouns.partition("|")
        noun_lines = train.replace(";", "\n") + "\n---\n" + held
        topic = train.split(";")[0]
        train, _, held = questions.partition("|")
        made.append(Category("single", [(topic, "")], answer, topic, noun_lines,
                             train.replace(";", "\n") + "\n---\n" + held))
    return made


SINGLES = single_categories()
NAMED = [CAPITAL, CONTINENT, COUNTRY_OF, SYMBOL, LEGS, SIDES, OPPOSITE, AUTHOR, COLOUR, PLANET, UNIT, AFTER, BEFORE,
         YOUNG]
BY_NAME = {category.name: category for category in NAMED}
