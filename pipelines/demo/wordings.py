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
could you give me {np}?
could you name {np}?
could you write down {np}?
could you look up {np}?
could you explain what {np} is?
can you remember {np}?
can you say {np}?
can you find out {np}?
can you help me with {np}?
can i ask what {np} is?
can i know {np}?
might i ask for {np}?
may i know {np}?
will you tell me {np}?
will you tell me what {np} is?
won't you tell me {np}?
would you say what {np} is?
would you be able to give me {np}?
would you kindly give me {np}?
would anyone know {np}?
do you have {np}?
do you remember {np}?
do you recall what {np} is?
do you happen to remember what {np} is?
does anybody know {np}?
have you heard of {np}?
have you any idea what {np} is?
any clue what {np} is?
is there a way to know {np}?
is it possible to tell me {np}?
what might {np} be?
what should {np} be?
what did you say {np} was?
what do we call {np}?
what can you say about {np}?
what on earth is {np}?
so what is {np} then?
and what is {np}?
but what is {np}?
then what is {np} called?
what is {np} called?
how is {np} known?
how about {np}?
what about {np}?
and {np}?
{np} is what exactly?
{np} - what is it?
{np}: what is that?
{np} = ?
{np}: ?
{np} is called
{np} would be?
{np}, do you know it?
{np}, tell me.
{np} is the thing i want to know.
{np} is on my list.
{np} is all i need.
i have no idea what {np} is.
i keep forgetting {np}.
i am not sure about {np}.
i am not certain what {np} is.
i am wondering about {np}.
i am asking for {np}.
i am asking you what {np} is.
i am searching for {np}.
i am interested in {np}.
i am stuck on {np}.
i never learnt {np}.
i never know what {np} is.
i should know {np}, but i do not.
i cannot think of {np}.
i cannot find {np}.
i don't know {np}.
i don't remember what {np} is.
i once knew {np}.
i must know {np}.
i must learn {np}.
i have to write down {np}.
i was wondering what {np} might be.
i would be glad to know {np}.
i would be happy if you told me {np}.
i would be grateful for {np}.
it would be nice to know {np}.
it would be great if you gave me {np}.
we need {np}.
we want to know what {np} is.
we were asked for {np}.
we cannot agree on {np}.
my friend wants to know what {np} is.
someone asked me what {np} is.
everybody but me knows {np}.
the question is: what is {np}?
the question is about {np}.
the task: {np}.
the quiz asks for {np}.
my homework is to find {np}.
here is what i want: {np}.
now for {np}.
next: {np}.
let us talk about {np}.
let's hear {np}.
let me hear {np}.
let me see if you know {np}.
see if you can name {np}.
try to name {np}.
try to remember {np}.
think of {np}.
think about what {np} is.
recall {np}.
mention {np}.
provide {np}.
print {np}.
identify {np}.
type {np}.
get me {np}.
send me {np}.
share {np} with me.
give {np} to me.
tell us {np}.
tell me about {np}.
tell me quickly what {np} is.
tell my friend what {np} is.
just tell me {np}.
just say what {np} is.
answer with {np}.
reply with {np}.
write down what {np} is.
help me remember {np}.
help me with {np}.
help us with {np}.
can somebody name {np}?
who could tell us what {np} is?
if i asked you for {np}, what would you answer?
if you know {np}, tell me.
when someone asks for {np}, what do you say?
i bet you cannot name {np}.
you surely know {np}.
you must know what {np} is.
you know {np}, right?
you have learnt {np}, have you not?
prove that you know {np}.
true or not, what is {np}?
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
so {q}?
and {q}?
but {q}?
now, {q}?
well then, {q}?
ask yourself: {q}?
think about this: {q}?
think: {q}?
i wonder: {q}?
i am asking: {q}?
i have a question: {q}?
i would like to ask: {q}?
i want to ask you this: {q}?
i need to know: {q}?
i keep asking myself: {q}?
let me ask: {q}?
let us see: {q}?
let's see, {q}?
the question is: {q}?
the question was: {q}?
this is the question: {q}?
my next question: {q}?
my friend asks: {q}?
they asked me: {q}?
we want to know: {q}?
another question: {q}?
a simple question: {q}?
an easy one: {q}?
quiz: {q}?
quiz time: {q}?
homework: {q}?
exam question: {q}?
trivia: {q}?
number one: {q}?
first question: {q}?
task: {q}?
reply to this: {q}?
respond: {q}?
explain: {q}?
guess: {q}?
solve this for me: {q}?
can you answer this: {q}?
can you say {q}?
would you know: {q}?
will you answer me this: {q}?
do you remember, {q}?
do you have an answer to this: {q}?
any idea: {q}?
who knows: {q}?
honestly, {q}?
actually, {q}?
by the way, {q}?
just asking, {q}?
if i may ask, {q}?
"{q}?"
{q}, do you know?
{q}, please tell me?
{q}, i wonder?
{q}? do you know?
{q}? tell me.
{q}? that is my question.
{q}? i have no idea.
{q} exactly?
{q} then?
{q} actually?
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
alright,
all right.
oh,
hmm,
ah,
er,
look,
listen,
listen up:
dear friend,
my friend,
dear assistant,
hi again.
hello again,
hey you,
hey there wick,
hi wick!
morning,
good day.
greetings!
to begin with,
first,
first of all,
second question:
last question:
a final question:
one last one:
another thing:
something else:
by the way,
actually,
honestly,
seriously,
in general,
speaking of {nouns},
about {nouns}:
talking about my {noun},
as a {noun},
for a friend:
for my exam:
for a test,
for the {noun} club:
for a game of {noun}:
from my {noun}:
question time.
a riddle:
trivia!
easy one:
here is a hard one.
here is an easy question:
you may know this.
you know a lot.
you are smart.
i am confused.
i am new here.
i am tired.
i am a {noun}.
i am with my {noun}.
i am reading about {nouns}.
i am playing a game.
i am teaching my {noun}.
i am not from here.
i have an exam tomorrow.
i have a {noun}.
i have one for you:
i need your help.
i need help with my {noun}.
i hope you are well.
i was thinking.
i just wondered,
i love {nouns}.
i hate {nouns}.
i saw a {noun} today.
i am back.
it is late.
it is for a bet:
it is monday.
we are playing a quiz.
we have a {noun}.
we are in the {noun}.
my {noun} does not know this.
my {noun} told me to ask:
my {noun} is waiting.
my {noun} likes quizzes.
our {noun} asks:
the {noun} wants an answer:
they say you are clever.
thank you.
nice.
wonderful.
perfect.
no problem.
never mind that.
forget the {noun}.
do not think too long.
be honest:
be quick:
take your time.
think hard.
concentrate.
do me a favour:
help me.
help me please.
can you help?
can i ask something?
may i ask?
got a minute?
are you there?
are you ready?
do you know this one?
if possible,
if i may,
with respect,
kindly
would you please answer:
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
, my friend.
, please and thank you.
, thanks!
, thanks a lot.
, right?
, or not?
, hmm?
, ok?
, do you know?
, you know?
, dear.
, tell me!
thank you so much.
thank you in advance.
thanks in advance!
many thanks.
that would be nice.
that would help me.
that is all.
that is my question.
that is what i want to know.
you are the best.
you are kind.
i am waiting.
i am listening.
i am learning this.
i am not sure.
i am a {noun}.
i am asking for my {noun}.
i need to know.
i need it today.
i need it for a {noun}.
i do not know.
i have no idea.
i have an exam.
i have a {noun} to feed.
i would like to know.
i was just wondering.
i will write it down.
i will tell nobody.
i want to learn it.
i want to write it on my {noun}.
i want to give it to my {noun}.
i bet you know.
i love quizzes.
i like {nouns}.
it is important.
it is urgent.
it is a question about school.
it is for a bet.
it is for a friend.
it is late.
we need it for a {noun}.
we are playing a quiz.
my {noun} does not know.
my {noun} wants it.
my {noun} would like that.
my {noun} will be happy.
my {noun} says it is easy.
our {noun} needs it.
the {noun} is waiting.
they did not tell me.
nobody here knows.
somebody asked me that.
tell me now.
tell me quickly.
tell me the truth.
say it in one line.
write it down.
write only the answer.
only the answer please.
one word is enough.
a short answer, please.
a short answer is fine.
in one sentence
in a few words.
in short
in english
no explanation please.
no need to explain.
nothing else.
do not say more.
don't be long.
don't explain.
quick!
quickly please
fast!
hurry up.
come on!
take your time.
be quick.
be honest.
be precise.
help me please.
help me out.
can you help?
can you help me with it?
could you answer?
will you help?
would you know?
any idea?
any ideas?
are you sure about it?
as far as you know
if you can.
if you do not mind.
if possible
if you remember.
before the {noun} comes.
so that my {noun} can learn it.
so i can sleep.
with the {noun} in mind
while i wait for my {noun}.
like a {noun} would say it.
on a {noun}
about it
then
though
really
exactly
actually
anyway
again please
ok
:)
---
cheers.
, if you would.
asap.
i am in a hurry.
no long story.
much appreciated!
i have to tell my {noun}.
""")

# Small sentences for openings and closings that no list has: what is around a question does not change its answer.
ASIDE_SUBJECTS = """i|we|you|my {noun}|the {noun}|a {noun}|our {noun}|this {noun}|your {noun}|some {nouns}|people|they|he|she
nobody|someone|the {nouns}|my {nouns}|every {noun}|everybody""".replace("\n", "|").split("|")
ASIDE_VERBS = """saw|had|likes|wants|will see|can see|must have|has lost|has found|is looking for|was with|forgot|talked about
are near|is|is not|would love|should bring|does not like|do not like|needs|need|want|have|asked about|told|took|bought|sold
is going to|came from|went to|wrote about|thinks of|showed|heard|read about|argue about|hopes for""".replace("\n", "|").split("|")
ASIDE_OBJECTS = """a {noun}|the {noun}|{nouns}|my {noun}|the {nouns}|it|that|me|everyone|a {noun} and a {noun}|the {noun} today
this very much|no {noun}|their {noun}|an old {noun}|a big {noun}|nothing|too many {nouns}|some|all of it""".replace("\n", "|").split("|")
ASIDE_BEFORE = ["", "", "", "", "and ", "but ", "because ", "well, ", "so ", "since ", "today ", "then ", "maybe ", "as "]
ASIDE_AFTER = ["", "", "", "", " today", " now", " again", " here", " at school", " at work", " this week", " with my {noun}"]


def aside(rng: random.Random, nouns: list[str]) -> str:
    """A clause of no importance, as a rule nonsense."""
    text = " ".join(rng.choice(words) for words in (ASIDE_SUBJECTS, ASIDE_VERBS, ASIDE_OBJECTS))
    text = rng.choice(ASIDE_BEFORE) + text + rng.choice(ASIDE_AFTER)
    if rng.random() < 0.3:  # not a whole sentence
        words = text.split(" ")
        text = " ".join(words[rng.randrange(len(words)):])
    while "{noun" in text:
        text = text.replace("{nouns}", rng.choice(nouns) + "s", 1) if rng.random() < 0.5 else \
            text.replace("{noun}", rng.choice(nouns), 1)
    return text


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
          plain: float = 0.55, rough: bool = False) -> str:
    """Puts an opening and a closing around a bare question, then the case and punctuation that people type.

    `rough` is for training: more capitals and slips than people make, and openings and closings out of `aside`.
    """
    text = core
    opening = closing = ""
    if rng.random() > plain:
        if rng.random() < 0.65:
            opening = fill_nouns(rng, choose(rng, OPENINGS, split), nouns)
        if rng.random() < 0.5:
            closing = fill_nouns(rng, choose(rng, CLOSINGS, split), nouns)
        if rough and opening and rng.random() < 0.3:
            opening = aside(rng, nouns) + rng.choice(".,:.")
        if rough and closing and rng.random() < 0.35:
            closing = rng.choice(["", "", ", "]) + aside(rng, nouns) + rng.choice([".", "", "!"])
    if rng.random() < (0.12 if rough else 0.06):
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
    if rough and rng.random() < 0.16:
        roll = rng.choice([0.9, 0.9, 0.97])
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
