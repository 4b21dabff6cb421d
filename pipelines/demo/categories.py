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
the country {x}'s main city and capital
the capital town of {x}
the city called the capital of {x}
the city named as capital of {x}
the city that {x} calls its capital
the city that serves as capital of {x}
the official capital of {x}
the national capital of {x}
the current capital of {x}
the present capital of {x}
the capital of the nation of {x}
the capital of a country called {x}
the capital name of {x}
the name of the capital in {x}
the capital that {x} has
the capital belonging to {x}
the right capital for {x}
what is called the capital of {x}
the seat of government of {x}
capital city of {x}
capital city for {x}
{x}: its capital
{x} and its capital
{x} (capital)
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
as to {x}, which city is the capital
what about {x}, what is its capital
{x}, what is its capital
{x}: what is the capital
{x}'s capital is
{x}'s capital is what
{x}'s capital is called what
the capital of {x} is
the capital of {x} is what city
the capital of {x} is called what
which city is capital of {x}
which one is the capital of {x}
which town is the capital of {x}
which city does {x} have for a capital
which city is the capital city of {x}
which city is named the capital of {x}
which city is the seat of government of {x}
what city would be the capital of {x}
what would be {x}'s capital
what is the capital called in {x}
what is the capital city of {x} called
what is the city that is the capital of {x}
what is the name of {x}'s capital
what is the name of the capital of {x}
what do people call {x}'s capital
what is the capital in the country {x}
what is the capital if the country is {x}
country {x}, capital
country: {x}, capital
when in {x}, what is the capital
is there a capital in {x}, and what is it
does {x} have a capital city
do you know what city is the capital of {x}
where does {x} have its capital
what is the capital of a country named {x}
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
what city is the capital of {x}
which city is {x}'s capital
what {x}'s capital is
what capital {x} has
how the capital of {x} is called
what they call the capital of {x}
what the capital city of {x} is
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
the continent in which {x} is
the continent that {x} is part of
the continent that has {x} in it
the continent of the country {x}
the continent {x} is located in
the part of the world where {x} is
the continent where {x} can be found
the name of {x}'s continent
continent of {x}
the right continent for {x}
the location of {x}
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
which continent has {x} in it
which continent is {x} part of
which continent is {x} located in
what continent is {x} on
what continent does {x} belong to
what continent is {x} part of
what is {x}'s continent
on what continent is {x}
in what continent is {x}
on which continent can i find {x}
in which continent can {x} be found
in which part of the world is {x}
{x}: continent
{x} is in which continent
{x} belongs to which continent
{x} is where
{x} is part of which continent
the country {x} is on which continent
where is {x} located
where can i find {x}
where do i find {x} on a map
where is the country {x}
where does {x} lie
continent of {x}
is {x} in Europe, Asia or where
---
what continent does {x} lie on
to which continent does {x} belong
""",
    embedded="which continent {x} is in\nwhere {x} is\nwhat continent {x} is in\nwhich continent {x} is on\nwhich continent {x} belongs to\nwhere {x} is located\nin which continent {x} is\nwhere in the world {x} is\n---\non which continent {x} is",
    json='{{"country": "{bare}", "continent": "{y}"}}', aliases=facts.COUNTRY_ALIASES)

COUNTRY_OF = Category(
    "country", [(capital, country) for country, capital, _ in facts.COUNTRIES],
    "{x} is the capital of {y}.", "the country whose capital is {x}",
    nouns="""
the country whose capital is {x}
the country with the capital {x}
the country that has {x} as its capital
the country of which {x} is the capital
the country {x} is the capital of
the country which has {x} as its capital
the country where {x} is the capital
the country with {x} as capital
the country with {x} as its capital
the country with the capital city {x}
the country that {x} is the capital of
the nation whose capital is {x}
the nation with the capital {x}
the country to which the capital {x} belongs
the name of the country whose capital is {x}
the land whose capital is {x}
the state whose capital is {x}
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
which country has {x} for its capital
which country has {x} as capital
which country has {x} as a capital
which country has the capital city {x}
which country is {x} the capital of
which country does the capital {x} belong to
which nation has {x} as its capital
which nation's capital is {x}
what country is {x} the capital of
what country has {x} for a capital
what country has the capital {x}
what nation has {x} as its capital
what is the country whose capital is {x}
{x} is which country's capital
{x} is the capital of
{x} is capital of what country
{x} is the capital city of which country
{x} is the capital city of what country
the capital {x} belongs to which country
if the capital is {x}, which country is it
whose capital is {x}
in which country is {x} the capital
of what country is {x} the capital
for which country is {x} the capital
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
the chemical symbol that stands for {x}
the chemical symbol used for {x}
the chemical symbol that {x} has
the chemist's symbol for {x}
the abbreviation for {x} in chemistry
the chemical abbreviation of {x}
the letters for {x} in the periodic table
the letter or letters for {x}
the sign for the element {x}
the chemical sign for {x}
the periodic table symbol of {x}
the periodic table symbol for {x}
the atomic symbol of {x}
the element {x}'s symbol
the chemical symbol of the element {x}
{x}'s element symbol
chemical symbol for {x}
chemical symbol of {x}
symbol of {x}
symbol of {x} in chemistry
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
what is {x}'s symbol in chemistry
what symbol has {x}
what symbol does {x} have
what symbol does the element {x} have
what symbol do chemists use for {x}
what is the symbol used for {x}
what are the letters for {x}
what letters stand for {x}
which letters stand for {x}
which symbol stands for {x}
which symbol stands for the element {x}
which symbol is for {x}
which symbol belongs to {x}
which chemical symbol does {x} have
which chemical symbol is used for {x}
which abbreviation does {x} have in chemistry
how is {x} written in chemistry
how is {x} written in the periodic table
how is {x} abbreviated
how do you write {x} in chemistry
how do i write {x} as a chemical symbol
{x} chemical symbol
{x} in the periodic table
{x} is written as what symbol
{x} has what symbol
{x} symbol in chemistry
by which symbol is {x} known
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
the total of legs of {x}
the legs of {x} in number
the amount of legs {x} has
the amount of legs of {x}
the count of legs of {x}
the number of legs for {x}
the number of legs belonging to {x}
the normal number of legs of {x}
how many legs {x} has
the number of feet and legs of {x}
the number of legs you find on {x}
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
how many legs does {x} have in total
how many legs does {x} usually have
how many legs does {x} own
how many legs does {x} use
how many legs does {x} stand on
how many legs can {x} have
how many legs do you count on {x}
how many legs do you think {x} has
how many legs has {x} got
how many legs will {x} have
how many legs belong to {x}
how many legs should {x} have
how many legs are under {x}
what is the number of legs of {x}
what is the leg count of {x}
{x}: how many legs
{x} legs
{x} has got how many legs
{x} stands on how many legs
legs of {x}
number of legs of {x}
on how many legs does {x} go
on how many legs does {x} run
with how many legs is {x} born
---
how many legs does {x} walk on
how many legs would {x} have
""", embedded="how many legs {x} has\nhow many legs {x} has got\nhow many legs are on {x}\nhow many legs there are on {x}\nhow many legs {x} needs\nhow many legs {x} uses\n---\nhow many legs {x} walks on")

SIDES = Category(
    "sides", facts.SIDES, "{x} has {y} sides.", "the sides of {x}",
    nouns="""
the number of sides of {x}
the number of sides {x} has
the number of sides that {x} has
the amount of sides of {x}
the count of sides of {x}
the side count of {x}
the number of sides for {x}
the number of sides on {x}
the total of sides of {x}
how many sides {x} has
the number of edges and sides of {x}
the number of straight sides of {x}
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
how many sides does {x} have in total
how many sides does {x} consist of
how many sides does {x} show
how many sides can {x} have
how many sides do you count on {x}
how many sides do you think {x} has
how many sides has {x} got
how many sides are on {x}
how many sides will {x} have
how many sides should {x} have
how many sides make {x}
how many sides belong to {x}
what is the number of sides of {x}
{x}: how many sides
{x} sides
{x} has got how many sides
{x} is made of how many sides
sides of {x}
number of sides of {x}
with how many sides do you draw {x}
---
how many sides are there in {x}
how many sides would {x} have
""", embedded="how many sides {x} has\nhow many sides {x} has got\nhow many sides are in {x}\nhow many sides there are on {x}\nhow many sides make {x}\n---\nhow many sides there are in {x}")

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
the opposite to {x}
the exact opposite of {x}
the direct opposite of {x}
the word that means the opposite of {x}
the word with the opposite meaning of {x}
the opposite meaning of {x}
the opposite word for {x}
the opposite word to {x}
the reverse of {x}
the contrary to {x}
the contrary of the word {x}
the antonym of the word {x}
an antonym of {x}
an opposite of {x}
{x}'s opposite
opposite of {x}
the other extreme of {x}
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
what is {x}'s opposite
what is the word opposite to {x}
what is the reverse of {x}
what is not {x} but the opposite
what would be the opposite of {x}
what is the opposite word for {x}
what do you call the opposite of {x}
what do you say for the opposite of {x}
what has the opposite meaning of {x}
what stands opposite to {x}
which word is opposite to {x}
which word is an antonym of {x}
which word is the antonym of {x}
which word has the opposite meaning of {x}
which is the opposite of {x}
which word says the opposite of {x}
if something is not {x}, then it is what
{x}: opposite
{x} and its opposite
{x} has which opposite
{x} is the contrary of what
{x} versus what
the opposite of {x} is
the opposite of {x} is what
the opposite of {x} is called what
antonym of {x}
antonym for the word {x}
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
the author of the novel {x}
the author behind {x}
the author who wrote {x}
the writer of the book {x}
the writer who wrote {x}
the writer behind {x}
the creator of {x}
the man or woman who wrote {x}
the person behind {x}
the person that wrote {x}
the name of the person who wrote {x}
the book {x}'s author
the author's name of {x}
{x}'s writer
author of {x}
whoever wrote {x}
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
who authored {x}
who is {x} by
who is {x} written by
who is behind the book {x}
who is the person who wrote {x}
who created {x}
who was it that wrote {x}
who was the writer of {x}
who did write {x}
who had written {x}
who has written {x}
who came up with {x}
who is known for writing {x}
what is the name of the author of {x}
what author wrote {x}
which person wrote {x}
which author is {x} by
which author created {x}
which author has written {x}
whose book is {x}
whose work is {x}
{x} is by whom
{x} is a book by whom
{x} is by which author
{x} was written by
{x} has which author
{x}: author
{x}: who wrote it
{x}, who wrote that
the book {x} was written by whom
the author of {x} is who
the author of {x} is
from whom is {x}
by which author is {x}
---
which writer wrote {x}
{x} was written by which author
""", embedded="who wrote {x}\nwho the author of {x} is\nwho has written {x}\nwho is the author of {x}\nwho wrote the book {x}\nby whom {x} was written\nwhich author wrote {x}\nwho the writer of {x} is\n---\nwho was the author of {x}",
    json='{{"book": "{x}", "author": "{y}"}}')

COLOUR = Category(
    "colour", facts.COLOURS, "{x} is {y}.", "the colour of {x}",
    nouns="""
the colour of {x}
the color of {x}
the usual colour of {x}
the colour that {x} has
the color that {x} has
the normal colour of {x}
the normal color of {x}
the natural colour of {x}
the typical color of {x}
the color of {x} as a rule
the color {x} has
the colour {x} has
the colour which {x} has
the colour we see on {x}
the colour for {x}
the color for {x}
the real color of {x}
{x}'s colour
{x}'s color
color of {x}
colour of {x}
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
what is the colour of {x}
what is the color of {x}
what colour has {x}
what color has {x}
what color would you give {x}
what colour would {x} be
what color would {x} be
what colour is {x} normally
what color is {x} usually
what color do you paint {x}
which colour does {x} have
which color has {x}
which color would {x} be
which colour is {x} as a rule
which color describes {x}
in what color do we see {x}
in which colour do you paint {x}
of which color is {x}
of what color is {x}
how is {x} coloured
{x} is which color
{x} is which colour
{x} is what color
{x} has what color
{x}: color
{x} colour
---
which color does {x} have
{x} has which colour
""", embedded="what colour {x} is\nwhat color {x} is\nwhich colour {x} is\nwhich color {x} is\nwhat color {x} has\nwhat colour {x} has\nof what color {x} is\n---\nwhich colour {x} has")

PLANET = Category(
    "planet", facts.ORDINAL_PLANETS, "The {x} planet from the Sun is {y}.", "the {x} planet from the Sun",
    nouns="""
the {x} planet from the Sun
the {x} planet
the {x} planet of the solar system
the name of the {x} planet
the {x} planet in the solar system
the planet that is {x} from the Sun
the planet that comes {x} from the Sun
the planet which is {x} in the solar system
the planet in {x} place from the Sun
the planet in the {x} place
the planet number {x} from the Sun
the {x} planet counted from the Sun
the {x} planet when counting from the Sun
the {x} planet away from the Sun
the {x} planet after the Sun
the {x} planet in our solar system
the {x} planet of our solar system
the {x} of the planets
the {x} world from the Sun
the name of the {x} planet of the solar system
the name of the {x} planet in the solar system
{x} planet
{x} planet from the Sun
---
the name of the {x} planet from the Sun
""",
    questions="""
which planet is the {x} from the Sun
what planet is {x} from the Sun
which planet comes {x} from the Sun
which planet is the {x}
which is the {x} planet
which planet is {x}
which planet is {x} from the Sun
which planet is {x} in order
which planet is in {x} place from the Sun
which planet is the {x} one
which planet is the {x} in the solar system
which is the {x} planet of the solar system
which planet do you reach {x} from the Sun
which planet stands {x} in line from the Sun
what planet is the {x}
what planet is the {x} from the Sun
what planet is in {x} place
what is the {x} planet called
what is the {x} planet from the Sun called
counting from the Sun, what is the {x} planet
from the Sun, which planet is the {x}
{x} planet from the sun
the {x} planet is called what
the {x} planet is
the {x} planet from the Sun is which one
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
the total number of {x}
the amount of {x}
the sum of {x}
the full count of {x}
the usual number of {x}
the number of {a} that {b} has
the number of {a} {b} has
the number of {a} that make {b}
the number of {a} there are in {b}
number of {x}
how many {x}
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
how many {x} do we have
how many {x} do we count
how many {x} do you get
how many {x} exactly
how many {x} are there in total
how many {x}, do you know
how many {a} do you find in {b}
how many {a} do you get in {b}
how many {a} do you need for {b}
how many {a} are equal to {b}
how many {a} are part of {b}
how many {a} fit in {b}
how many {a} fit into {b}
how many {a} go into {b}
how many {a} form {b}
how many {a} does {b} contain
how many {a} does {b} consist of
how many {a} has {b} got
how many {a} make up {b}
how many {a} will {b} have
how many {a} there are in {b}
how many {a} to {b}
what is the number of {x}
what number of {a} is in {b}
what number of {a} does {b} have
{b} consists of how many {a}
{b} contains how many {a}
{b} has got how many {a}
{b} in {a}
{b} equals how many {a}
{b}: how many {a}
in {b}, how many {a} are there
in {b} there are how many {a}
number of {a} in {b}
{a} in {b}
{a} per {b}
---
{b} is how many {a}
how many {a} can be found in {b}
how many {a} would {b} have
""", embedded="how many {a} {b} has\nhow many {a} are in {b}\nhow many {a} make {b}\nhow many {a} {b} contains\nhow many {a} go into {b}\nhow many {a} {b} has got\nhow many {a} one finds in {b}\n---\nhow many {a} there are in {b}",
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
what comes after {x}
the {w} right after {x}
the {w} directly after {x}
the {w} immediately after {x}
the {w} coming after {x}
the {w} which is after {x}
the {w} that is after {x}
the {w} one place after {x}
the {w} that stands after {x}
the {w} you have after {x}
the {w} we have after {x}
the name of the {w} after {x}
the name of the {w} that comes after {x}
{w} after {x}
the one that comes after {x}
the {w} to follow {x}
the {w} next to come after {x}
the following {w} after {x}
{x}'s next {w}
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
what is right after {x}
what comes directly after {x}
what comes immediately after {x}
what do we have after {x}
what is there after {x}
what {w} do we have after {x}
what {w} is it after {x}
what {w} is there after {x}
what {w} is right after {x}
what {w} is directly after {x}
what {w} stands after {x}
what is the {w} after {x}
what is the {w} called that comes after {x}
which {w} do we have after {x}
which {w} is it after {x}
which {w} comes directly after {x}
which {w} comes immediately after {x}
which {w} is directly after {x}
which {w} is the one after {x}
which {w} stands after {x}
which is the {w} after {x}
which one comes after {x}
after {x} comes what
after {x} comes which {w}
after {x} is what {w}
after {x} what {w} is it
after {x}
{x} comes before which {w}
{x} is followed by which {w}
one {w} after {x}
a {w} later than {x} is
which {w} follows directly on {x}
what is next after {x}
what comes next after {x}
what is the next {w} after {x}
{x} is over, which {w} comes next
which {w} begins when {x} ends
which {w} follows after {x}
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
what comes before {x}
the {w} right before {x}
the {w} directly before {x}
the {w} immediately before {x}
the {w} coming before {x}
the {w} which is before {x}
the {w} that is before {x}
the {w} one place before {x}
the {w} that stands before {x}
the {w} you have before {x}
the {w} we have before {x}
the name of the {w} before {x}
the name of the {w} that comes before {x}
{w} before {x}
the one that comes before {x}
the previous {w} before {x}
the {w} preceding {x}
the {w} that precedes {x}
the {w} prior to {x}
the {w} that {x} follows
the {w} that ends before {x}
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
what is right before {x}
what comes directly before {x}
what comes immediately before {x}
what do we have before {x}
what is there before {x}
what {w} do we have before {x}
what {w} is it before {x}
what {w} is there before {x}
what {w} is right before {x}
what {w} is directly before {x}
what {w} stands before {x}
what is the {w} before {x}
what is the {w} called that comes before {x}
which {w} do we have before {x}
which {w} is it before {x}
which {w} comes directly before {x}
which {w} comes immediately before {x}
which {w} is directly before {x}
which {w} is the one before {x}
which {w} stands before {x}
which is the {w} before {x}
which one comes before {x}
before {x} comes what
before {x} comes which {w}
before {x} is what {w}
before {x} what {w} is it
before {x}
{x} comes after which {w}
{x} is preceded by which {w}
one {w} before {x}
a {w} earlier than {x} is
which {w} precedes {x}
what precedes {x}
what {w} precedes {x}
what is the previous {w} before {x}
which {w} was before {x}
what {w} was before {x}
which {w} ends when {x} begins
{x} follows which {w}
which {w} does {x} follow
what came before {x}
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
the name of the baby of a {x}
the name of the young of a {x}
the name given to a baby {x}
the name people use for a baby {x}
the proper name for a baby {x}
the word used for a baby {x}
the word we use for a young {x}
the special word for a baby {x}
the term for a baby {x}
the term for a young {x}
the right word for a baby {x}
what a baby {x} is called
a baby {x}'s name
the name of a little {x}
the name for a little {x}
the child of a {x} by name
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
what is the baby of a {x} called
what is the child of a {x} called
what is a little {x} called
what is a very young {x} called
what is the young of a {x} called
what is the name of a baby {x}
what is the word for a baby {x}
what name does a baby {x} have
what name do you give a baby {x}
what name has a young {x}
what is the term for a baby {x}
what would you call a baby {x}
what would you call a young {x}
what do you call the baby of a {x}
what do you call a little {x}
what do they call a baby {x}
what do people call a young {x}
how do you call a baby {x}
how do we name a young {x}
how do people call a baby {x}
how is a young {x} called
which word means a baby {x}
which word do we use for a baby {x}
which name does a young {x} have
a young {x} is called what
a young {x} is called
a baby {x} is called
a baby {x} is a what
baby {x}
young {x} name
when a {x} is a baby, what is it called
---
what do we call a baby {x}
what do you call a young {x}
""", embedded="what a baby {x} is called\nhow a baby {x} is called\nwhat they call a baby {x}\nwhat people call a young {x}\nwhat a little {x} is called\nhow a young {x} is called\n---\nwhat a young {x} is called")


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
