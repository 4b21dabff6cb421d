"""Questions that the demo model must decline: near misses of what it knows, everyday requests, and nonsense.

The variety matters more than the sense: the model has to learn that a question is declined unless it is one of the few
it knows, so subjects are drawn from wide lists and from made-up words.
"""

import random

import facts
from categories import BY_NAME, NAMED
from wordings import NOUN_FRAMES, QUESTION_FRAMES, Split, choose

NOUNS = """apple river guitar computer garden bicycle candle window market doctor teacher friend brother sister mother
father neighbour dragon castle rocket robot pizza coffee bread cheese banana mountain island forest desert beach city
village bridge road train plane boat car engine battery phone camera book letter poem song story film game football
tennis chess museum school university office company bank shop kitchen bedroom table chair lamp mirror clock watch
jacket shoe hat shirt dress ring bag wallet key door wall roof floor flower tree leaf rose tulip lion tiger elephant
monkey rabbit mouse whale shark dolphin eagle parrot snake spider bee ant butterfly cat dog horse cow pig sheep goat
duck king queen prince wizard pirate soldier pilot nurse lawyer painter singer dancer writer actor farmer baker cook
student pupil child baby boy girl man woman crowd team country language word number shape star moon sun
cloud storm rainbow winter summer spring autumn morning evening holiday birthday wedding party present cake sugar salt
pepper rice potato tomato onion carrot egg butter milk water juice tea wine beer medicine vaccine virus cell atom
electron magnet laser telescope satellite volcano earthquake dinosaur fossil diamond crystal metal plastic paper pencil
paint brush hammer ladder rope tent map compass anchor harbour ship lighthouse whistle drum violin piano trumpet opera
theatre circus cinema newspaper radio television internet website password server database compiler program algorithm
equation triangle circle cube theorem proof novel chapter page library grammar verb noun dictionary religion history
election president law tax money dollar euro stock market insurance job salary interview contract budget loan price
recipe soup salad sandwich burger pasta noodle breakfast lunch dinner diet vitamin muscle heart brain blood lung tooth
dentist hospital headache fever sleep dream memory habit mood anger love friendship marriage divorce childhood""".split()

ATTRIBUTES = """population;president;prime minister;king;currency;flag;language;official language;area;size;height;length;
weight;age;price;cost;name;history;meaning;purpose;origin;shape;taste;smell;speed;temperature;weather;climate;national
anthem;largest city;second largest city;longest river;highest mountain;national dish;religion;government;economy;mass;
density;boiling point;atomic number;atomic weight;melting point;publisher;main character;plot;ending;summary;genre;
first line;birthday;wife;husband;favourite food;lifespan;habitat;diet;scientific name;email;phone number;address;
password;zip code;time zone;national animal;national flower;opposite side;inventor;founder;owner;colour scheme;square
root;area code;country code;biggest lake;oldest building;most famous person;best restaurant;mayor;airport""".replace(
    "\n", " ").split(";")

ACTIONS = """bake a {n};fix my {n};buy a {n};sell my {n};draw a {n};clean a {n};build a {n};paint a {n};find a good {n};
write about a {n};learn about {n}s;open a {n};cook a {n};train my {n};repair the {n};choose a {n};grow a {n};install a
{n};become a {n};get rid of {n}s;make a {n} at home;travel by {n};lose weight;sleep better;learn piano;get rich;stop
worrying;speak French;play chess;invest money;run faster;write a letter;code in Python;apply for a job;change a tyre;
fold a paper plane;boil an egg;meet new people;use this website;reset my {n};talk to a {n};photograph a {n};name my
{n};feed a {n};measure a {n};protect my {n};move a {n};count {n}s;compare {n}s;pay for a {n}""".replace(
    "\n", " ").split(";")

REQUESTS = """write a poem about a {n};write a {n} poem;write a song about {n}s;write an essay on {n}s;write a letter to my
{n};write a story about a {n};write code for a {n};write a python function that sorts {n}s;write a program;debug this
code;explain {n}s to me;explain how a {n} works;describe a {n};describe your {n};define {n};what is a {n};what is a {n}?;
what are {n}s;what is the best {n};which {n} should i buy;who invented the {n};who discovered the {n};when was the {n}
invented;where can i find a {n};why do {n}s {v};why is the {n} so {j};how does a {n} work;how big is a {n};how old is
the {n};how much does a {n} cost;how many {n}s are there;how many {n}s does a {n} have;how far is the {n};is a {n} better
than a {n};are {n}s {j};can a {n} {v};do {n}s {v};does the {n} {v};should i get a {n};would you like a {n};translate {n}
to {l};translate "the {n} is {j}" into {l};how do you say {n} in {l};spell {n};rhyme with {n};give me a synonym for {j};
what does {n} mean;what is the plural of {n};what rhymes with {n};summarise this {n};summarise the {n} for me;recommend
a {n};suggest a name for my {n};give me tips for {n}s;give me a recipe for {n};list ten {n}s;list some {n}s;name three
{n}s;name a {j} {n};compare {n}s and {n}s;what is the difference between a {n} and a {n};tell me about {n}s;tell me about
the {n};tell me something about {n};tell me a fact about {n}s;tell me more about {n};i need help with my {n};i have a
problem with my {n};my {n} is broken;my {n} is {j};the {n} is {j};i think {n}s are {j};i like {n}s;i hate {n}s;i want a
{n};i lost my {n};where is my {n};where is the nearest {n};where do {n}s come from;when is the {n};when does the {n}
open;what time is it;what day is it today;what is the date;what year is it;what's the weather like;will it rain
tomorrow;is it going to be {j} tomorrow;who won the {n} game;who won the world cup;who is the best {n} player;who is
the president;who is your {n};who was {p};who is {p};when was {p} born;where was {p} born;how did {p} die;what did {p}
do;is {p} still alive;what is {p} famous for;are you {j};are you human;do you have a {n};do you love me;do you dream;what is
your favourite {n};what do you think about {n}s;what is love;what is the meaning of life;is there a god;what is the best
{n} in {c};how do i get to {c};how far is {c} from {c};is {c} {j};have you been to {c};tell me about {c};tell me about
the history of {c};what can i do in {c};what language do they speak in {c};how many people live in {c};how big is {c};
who rules {c};plan a trip to {c};what should i eat in {c};what is {c} famous for;is {c} bigger than {c};when was {c}
founded;book a flight to {c};find a hotel in {c};what is {a} - {b};what is {a} minus {b};what is {a} times {b};{a} * {b};
{a} / {b};{a} x {b};{a} - {b};what is {a} divided by {b};multiply {a} by {b};subtract {a} from {b};square root of {a};is
{a} a prime number;is {a} bigger than {b};what is {d} + {e};{d} + {e};add {d} and {e};what is {d} plus {a};what is {a}%
of {d};convert {a} miles to kilometres;convert {d} dollars to euros;solve x + {a} = {b};what is the {a}th prime;roman
numeral for {d};count the {n}s;what is in this picture;draw me a {n};play some music;set an alarm for {a};remind me to
{v};send an email to my {n};call my {n};turn on the {n};search the web for {n}s;open the {n};order a {n};what is on
television;latest news;news about {n}s;stock price of {n};who are the {n}s;fix this sentence: the {n} {v};correct my
grammar;continue the story: the {n};pretend to be a {n};act as a {n};you are a {n} now;let us play a {n} game;tell me a
secret;sing a {n} song;what is {w};who is {w};tell me about {w};{w};{w} {w};{w} {w} {w};what does {w} mean;how to {w};is
{w} {j};{n};{n} {n};{n} {j};{j} {n}s;{n} {n} {n} {n};the {n} and the {n};{j};why;how;who;when;what;which one;ok then;yes;
no;maybe;hmm;lol;wow;test;testing;asdf;foo bar;lorem ipsum;help;i am {j};i am a {n};i feel {j};i am {j} today because of
my {n};make me {j};sort these: {n}, {n}, {n};which is {j}er, a {n} or a {n};why did the {n} {v};if a {n} {v}s, what
happens;how do {n}s {v};what happens when a {n} {v}s;what would happen without {n}s;imagine a {n} that can {v};
how to {x};how do i {x};how can i {x};can you {x};please {x};help me to {x};i want to {x};should i {x};is it hard to {x};
what do i need to {x};teach me how to {x};where can i {x};when should i {x};why should i {x};explain how to {x};i am
trying to {x};could you {x} for me;what is the best way to {x};how long does it take to {x};give me steps to {x}""".replace(
    "\n", " ").split(";")

VERBS = """sleep run jump fly swim eat break shine grow burn melt freeze sing dance cry laugh move stop bite sting fall
float sink explode dream think talk walk fight hide travel work glow spin vanish""".split()
ADJECTIVES = """green cold warm big small happy sad tired bored rich poor smart lazy old young fast slow heavy light loud
quiet dangerous safe cheap expensive beautiful ugly strange famous important healthy clean dirty hungry angry lonely
wise brave funny serious blue red strong weak hard soft sweet bitter true false real fake""".split()
LANGUAGES = "French German Spanish Italian Latin Chinese Japanese Arabic Russian Polish Dutch Greek Welsh Hindi".split()
PEOPLE = """Albert Einstein;Isaac Newton;Marie Curie;Napoleon;Julius Caesar;Cleopatra;Abraham Lincoln;Mozart;Beethoven;
Leonardo da Vinci;Picasso;Elvis Presley;Michael Jackson;Charles Darwin;Galileo;Aristotle;Plato;Socrates;Alan Turing;Ada
Lovelace;Jane Austen;William Shakespeare;Leo Tolstoy;Victor Hugo;Homer;Mary Shelley;Queen Victoria;Joan of Arc;Gandhi;
Nelson Mandela;Christopher Columbus;Marco Polo;Bach;Van Gogh;Rembrandt;Neil Armstrong""".replace("\n", "").split(";")

# Countries that are not in the table, the last ones only for evaluation.
OTHER_COUNTRIES = """Bhutan;Laos;Cambodia;Myanmar;Sri Lanka;Yemen;Oman;Kuwait;Bahrain;Lebanon;Syria;Israel;Georgia;Armenia;
Azerbaijan;Uzbekistan;Turkmenistan;Tajikistan;Kyrgyzstan;Afghanistan;North Korea;Taiwan;Indonesia;Brunei;East Timor;Papua
New Guinea;Samoa;Tonga;Vanuatu;Tuvalu;Kiribati;Nauru;Palau;Guatemala;Belize;Honduras;Nicaragua;Costa Rica;Panama;Haiti;the
Dominican Republic;the Bahamas;Barbados;Grenada;Guyana;Bolivia;Mali;Niger;Chad;Sudan;South Sudan;Eritrea;Djibouti;Somalia;
Rwanda;Burundi;Tanzania;Malawi;Mozambique;Zimbabwe;Botswana;South Africa;Lesotho;Eswatini;Gabon;Cameroon;Congo;Benin;Togo;
Ivory Coast;Liberia;Guinea;Gambia;Mauritania;Cape Verde;Mauritius;Seychelles;Comoros;Malta;Cyprus;Andorra;Monaco;San
Marino;Liechtenstein;Luxembourg;Moldova;Belarus;Bosnia;Montenegro;North Macedonia;Kosovo;Switzerland;the Czech Republic;
Scotland;Wales;England;Texas;California;Florida;Bavaria;Catalonia;Sicily;Alaska;Hawaii;Tibet;Greenland;Quebec;Atlantis;
Narnia;Wakanda;Mordor;Utopia""".replace("\n", " ").split(";")
HELD_COUNTRIES = """Bhutan;Laos;Oman;Kuwait;Armenia;Tonga;Honduras;Panama;Bolivia;Rwanda;Botswana;Gabon;Togo;Malta;
Moldova;Switzerland""".replace("\n", "").split(";")
TRAIN_COUNTRIES = [country.strip() for country in OTHER_COUNTRIES if country.strip() not in HELD_COUNTRIES]

_ONSETS = ["b", "br", "c", "ch", "d", "dr", "f", "fl", "g", "gl", "h", "j", "k", "kr", "l", "m", "n", "p", "pl", "qu", "r",
           "s", "sh", "st", "t", "th", "tr", "v", "w", "y", "z", ""]
_RIMES = ["a", "an", "ar", "e", "el", "en", "er", "i", "ia", "il", "in", "o", "on", "or", "os", "u", "um", "us", "y", "land",
          "stan", "ai", "ea", "ick", "out", "ell", "amp", "ost"]


def made_up_word(rng: random.Random) -> str:
    return "".join(rng.choice(_ONSETS) + rng.choice(_RIMES) for _ in range(rng.choice([1, 2, 2, 3, 3]))) or "zom"


def made_up_name(rng: random.Random) -> str:
    return made_up_word(rng).capitalize()


def _fill(rng: random.Random, template: str) -> str:
    text = template.strip().replace("{x}", rng.choice(ACTIONS).strip())
    slots = {
        "{n}": lambda: rng.choice(NOUNS), "{v}": lambda: rng.choice(VERBS), "{j}": lambda: rng.choice(ADJECTIVES),
        "{l}": lambda: rng.choice(LANGUAGES), "{p}": lambda: rng.choice(PEOPLE), "{w}": lambda: made_up_word(rng),
        "{c}": lambda: place(rng), "{a}": lambda: str(rng.randrange(2, 100)), "{b}": lambda: str(rng.randrange(2, 100)),
        "{d}": lambda: str(rng.randrange(100, 10000)), "{e}": lambda: str(rng.randrange(100, 10000)),
    }
    for slot, draw in slots.items():
        while slot in text:
            text = text.replace(slot, draw(), 1)
    return text


def place(rng: random.Random) -> str:
    roll = rng.random()
    if roll < 0.5:
        return rng.choice(facts.COUNTRIES)[rng.randrange(2)]
    return rng.choice(TRAIN_COUNTRIES) if roll < 0.8 else made_up_name(rng)


def _unknown_subject(rng: random.Random, category: str) -> str:
    """A subject that is not in the category's table, as like one as can be."""
    roll = rng.random()
    if category in ("capital", "continent"):
        if roll < 0.45:
            return rng.choice(TRAIN_COUNTRIES)
        return made_up_name(rng) if roll < 0.9 else rng.choice(NOUNS)
    if category in ("legs", "sides", "colour"):
        word = rng.choice(NOUNS) if roll < 0.6 else made_up_word(rng)
        text = ("an " if word[0] in "aeiou" else "a ") + word
        known = {row[0] for row in BY_NAME[category].rows} | {"a carrot", "a banana", "a tomato", "a rainbow", "a circle"}
        return text if text not in known else "a " + made_up_word(rng)
    if category in ("author", "country"):
        return made_up_name(rng) if roll < 0.5 else "The " + rng.choice(NOUNS).capitalize()
    known = {row[0] for row in BY_NAME[category].rows}
    word = rng.choice(NOUNS) if roll < 0.6 else made_up_word(rng)
    return word if word not in known else made_up_word(rng)


NEAR_MISS = [category for category in NAMED if category.name not in ("planet", "unit", "after", "before")]
_WEIGHTS = [6 if category.name == "capital" else 1 for category in NEAR_MISS]


def out_of_scope(rng: random.Random) -> str:
    """A bare question, without opening, closing or case."""
    roll = rng.random()
    if roll < 0.32:
        category = rng.choices(NEAR_MISS, _WEIGHTS)[0]
        fact = category.fact((_unknown_subject(rng, category.name), ""))
        return category.core(rng, fact)
    if roll < 0.46:
        attribute = rng.choice(ATTRIBUTES).strip()
        of = place(rng) if rng.random() < 0.6 else "the " + rng.choice(NOUNS)
        phrase = rng.choice([f"the {attribute} of {of}", f"{of}'s {attribute}", f"the {attribute} in {of}",
                             f"the {attribute} for {of}"])
        return choose(rng, NOUN_FRAMES, Split.TRAIN).format(np=phrase)
    text = _fill(rng, rng.choice(REQUESTS))
    if roll < 0.60:
        return choose(rng, QUESTION_FRAMES, Split.TRAIN).format(q=text)
    return text + ("?" if rng.random() < 0.5 else rng.choice(["", ".", "!"]))
