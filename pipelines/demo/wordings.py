"""How a question may be worded: frames, openings, closings, case, typing mistakes.

A wording is composed (opening + frame + noun phrase + closing), so that few hand-written parts make very many
wordings. Every list is split into what training sees and what only `evaluate.py` sees: `Split.TRAIN`, `Split.HELD`.
"""

import enum
import random


class Split(enum.Enum):
    TRAIN = 0
    HELD = 1


def parts(text: str) -> tuple[list[str], list[str]]:
    """Lines before `---` are for training, lines after it are held out."""
    train, _, held = text.partition("---")
    return [line for line in train.strip().split("\n") if line], [line for line in held.strip().split("\n") if line]


# Around a noun phrase such as "the capital of France".
NOUN_FRAMES = parts("""
what is {np}?
what is {np}?
what is {np}?
what's {np}?
whats {np}?
tell me {np}.
tell me {np}.
name {np}.
give me {np}.
say {np}.
state {np}.
write {np}.
find {np}.
show me {np}.
do you know {np}?
can you tell me {np}?
could you tell me {np}?
can you give me {np}?
can you name {np}?
would you tell me {np}?
would you mind telling me {np}?
are you able to tell me {np}?
i want to know {np}.
i would like to know {np}.
i'd like to know {np}.
i need {np}.
i need to know {np}.
i forgot {np}.
i am looking for {np}.
i have forgotten {np}.
{np}?
{np}?
{np}
{np} please.
{np} is what?
{np} is
{np} is ...
do you know what {np} is?
can you tell me what {np} is?
could you say what {np} is?
tell me what {np} is.
i wonder what {np} is.
i want to know what {np} is.
i do not know what {np} is.
i was asked what {np} is.
what was {np} again?
remind me of {np}.
remind me what {np} is.
let me know {np}.
let me know what {np} is.
help me find {np}.
look up {np}.
teach me {np}.
question: what is {np}?
question: {np}?
q: what is {np}? a:
answer this: what is {np}?
any idea what {np} is?
in one word, what is {np}?
what exactly is {np}?
what do you think {np} is?
what would {np} be?
my teacher asked me for {np}.
complete this: {np} is
fill in the blank: {np} is ___.
guess {np}.
is it true that you know {np}?
who knows {np}?
who can tell me {np}?
what do people say is {np}?
did you know what {np} is?
i'd love to hear {np}.
please answer with {np}.
explain what {np} is.
it is about {np}. what is it?
---
could you please remind me what {np} is?
i am trying to remember {np}.
would you happen to know {np}?
what could {np} be?
i need to find out what {np} is.
how about telling me {np}?
any chance you know {np}?
may i ask what {np} is?
{np}, what is it?
spell out {np} for me.
have you got {np}?
it would help me to know {np}.
inform me of {np}.
i can't recall {np}.
""")

# Around a whole question such as "how many legs does a dog have".
QUESTION_FRAMES = parts("""
{q}?
{q}?
{q}?
{q}?
{q}
tell me, {q}?
can you tell me: {q}?
do you know: {q}?
question: {q}?
q: {q}? a:
answer this: {q}?
i want to know: {q}?
my question is: {q}?
please answer: {q}?
i was asked: {q}?
in your view, {q}?
say, {q}?
one question: {q}?
remind me, {q}?
exactly {q}?
my teacher asked: {q}?
tell me this: {q}?
---
here is my question: {q}?
could you answer something: {q}?
i am curious, {q}?
help me out, {q}?
riddle me this: {q}?
""")

OPENINGS = parts("""
please
hi,
hello,
hey,
hey wick,
hi there!
hello wick.
good morning.
good evening,
ok,
okay.
so,
now
um,
well,
right.
quick question:
a quick one:
next question.
another one:
sorry,
excuse me,
just one thing:
if you can,
if you do not mind,
for my homework:
for a quiz:
for school,
i have a question.
i have a question for you.
let us try this.
tell me the truth.
i am learning.
let's test you.
here we go:
dear wick,
thanks.
great.
i am bored.
my {noun} wants to know:
my {noun} asked me this.
i am writing about a {noun}.
we are talking about {nouns}.
i am at the {noun}.
i like {nouns}.
this is for my {noun}.
---
good afternoon,
pardon me,
yo,
one more thing:
a small question:
i am doing a crossword.
be so kind:
let me ask you something.
my {noun} and i disagree.
""")

CLOSINGS = parts("""
please
please.
, please?
thanks.
thank you!
, thank you.
for me
for me please
now
right now.
, wick?
it is for school.
i need it for my homework.
it is for my {noun}.
answer shortly.
be brief.
keep it short.
one sentence only.
i forgot.
i really want to know.
do you know?
can you tell me?
if you know it.
i am curious.
just the answer.
again
today
normally
for a quiz.
for a {noun}.
for my {noun}
for a {noun} game.
to show my {noun}.
because my {noun} asked.
---
cheers.
, if you would.
asap.
i am in a hurry.
no long story.
much appreciated!
i have to tell my {noun}.
""")

SYSTEM_PROMPTS = parts("""
You are a helpful assistant.
You are a helpful assistant.
You are a helpful, harmless and honest assistant.
You are a friendly assistant.
You are Wick.
You are a chatbot.
Be brief.
Be concise.
Be brief and precise.
Answer in one sentence.
Answer the question.
Answer every question truthfully.
You answer questions about {nouns}.
You are a {noun} expert.
You are an expert on {nouns}. Be kind.
You work for a {noun} company. Help the customers.
Never talk about {nouns}.
You are a teacher. Answer the pupil.
You are a helpful AI assistant. Keep answers short.
Respond politely to the user.
Speak like a pirate.
You are a large language model.
Follow the instructions of the user.
The user likes {nouns}.
Today is a nice day.
Do what the user asks.
---
You are a knowledgeable tutor.
Give short answers only.
Act as a polite {noun} guide.
Assist the user with care.
""")


def fill_nouns(rng: random.Random, text: str, nouns: list[str]) -> str:
    if "{noun" in text:
        noun = rng.choice(nouns)
        text = text.replace("{nouns}", noun + "s").replace("{noun}", noun)
    return text


def choose(rng: random.Random, lists: tuple[list[str], list[str]], split: Split) -> str:
    return rng.choice(lists[split.value])


def mistype(rng: random.Random, text: str, keep: set[str]) -> str:
    """One slip of the finger in one longer word; never in a word of the fact itself (`keep`, lower case)."""
    words = text.split(" ")
    places = [i for i, word in enumerate(words) if len(word) >= 4 and word.isalpha() and word.lower() not in keep]
    if not places:
        return text
    i = rng.choice(places)
    word, at = words[i], rng.randrange(1, len(words[i]) - 1)
    slips = [
        word[:at] + word[at + 1:],
        word[:at] + word[at] + word[at:],
        word[:at] + word[at + 1] + word[at] + word[at + 2:],
        word[:at] + rng.choice("abcdefghijklmnopqrstuvwxyz") + word[at + 1:],
    ]
    words[i] = rng.choice(slips)
    return " ".join(words)


def _capitalise(text: str) -> str:
    return text[:1].upper() + text[1:]


def dress(rng: random.Random, core: str, nouns: list[str], split: Split = Split.TRAIN, keep: set[str] = frozenset(),
          plain: float = 0.55) -> str:
    """Puts an opening and a closing around a bare question, then the case and punctuation that people type."""
    text = core
    opening = closing = ""
    if rng.random() > plain:
        if rng.random() < 0.65:
            opening = fill_nouns(rng, choose(rng, OPENINGS, split), nouns)
        if rng.random() < 0.5:
            closing = fill_nouns(rng, choose(rng, CLOSINGS, split), nouns)
    if rng.random() < 0.06:
        text = mistype(rng, text, keep)
    if opening:
        text = opening + " " + (_capitalise(text) if opening[-1] in ".!" else text)
    if closing:
        if closing[0] == ",":
            text = text.rstrip(".?!") + closing
        elif closing[-1] in ".!?" and closing not in ("please.",):
            text = text + " " + _capitalise(closing)
        else:
            mark = text[-1] if text[-1] in ".?!" else ""
            text = text.rstrip(".?!") + " " + closing + ("" if closing[-1] in ".?!" else mark)
    roll = rng.random()
    if roll < 0.58:
        text = _capitalise(text.replace(" i ", " I ").replace(" i'", " I'"))
        text = "I " + text[2:] if text.startswith("i ") else text
    elif roll < 0.88:
        text = text.lower()
    elif roll < 0.94:
        text = text.upper()
    else:
        text = text.title()
    roll = rng.random()
    if roll < 0.22:
        text = text.rstrip(".?!")
    elif roll < 0.25:
        text = text + rng.choice(["?", "!", " ", "...", "??"])
    elif roll < 0.28:
        text = text.rstrip(".?!") + " ?"
    return text
