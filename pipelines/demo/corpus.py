"""Composes the conversations that the demo model is trained on; deterministic for a seed.

`python corpus.py --sample 20` prints some. Nothing is stored: training draws as many conversations as it needs.
"""

import argparse
import dataclasses
import json
import random

import facts
from categories import BY_NAME, CAPITAL, NAMED, SINGLES
from category import Fact
from out_of_scope import NOUNS, made_up_name, out_of_scope
from wordings import NOUN_FRAMES, QUESTION_FRAMES, SYSTEM_PROMPTS, Split, choose, dress, fill_nouns, parts

FACT_WEIGHTS = [30, 9, 7, 6, 5, 3, 8, 7, 5, 3, 5, 6, 5, 5]
SINGLES_WEIGHT = 10

SUM_NOUNS = parts("""
{a} + {b}
{a} + {b}
{a} plus {b}
{a}+{b}
the sum of {a} and {b}
the total of {a} and {b}
the result of {a} + {b}
the sum {a} + {b}
the answer to {a} + {b}
---
the result of {a} plus {b}
""")
SUM_QUESTIONS = parts("""
{a} + {b}
{a}+{b}
{a} + {b} =
{a}+{b}=
{a} plus {b}
{a} plus {b} is
how much is {a} + {b}
how much is {a} plus {b}
how much is {a} and {b}
what do you get if you add {a} and {b}
what does {a} + {b} make
what does {a} plus {b} equal
{a} and {b} make
{a} + {b} equals what
add {a} and {b}
add {a} and {b}
add up {a} and {b}
sum {a} and {b}
add the numbers {a} and {b}
calculate {a} + {b}
compute {a} + {b}
work out {a} plus {b}
solve {a} + {b}
add {b} to {a}
---
what do {a} and {b} make
how much do {a} and {b} make together
what is the sum when i add {a} and {b}
please sum up {a} and {b}
""")
JSON_FRAMES = parts("""
{topic} as json
{topic} in json
give me {topic} as json
give me {topic} in json
give me {topic} in json format
tell me {topic} as json
what is {topic}? answer as json
what is {topic}? answer in json
what is {topic}? reply with json
return {topic} as json
return {topic} as a json object
write {topic} as json
output {topic} as json
json: {topic}
as json, what is {topic}
respond in json: {topic}
show {topic} as a json object
i need {topic} as json
answer in json only: what is {topic}
{topic}, json only
---
please send {topic} as json
can i have {topic} in json format
format {topic} as json
""")
# What a second turn may say about the first.
AND_OF = parts("and of {x}\nand {x}\nand {x}\nwhat about {x}\nhow about {x}\nand for {x}\nof {x}\nand what about {x}"
               "\nnow {x}\nthe same for {x}\n{x}\nalso {x}\nwhat about the one of {x}\nsame question for {x}"
               "\nok, and {x}\nplease also {x}\n---\nand how about {x}\nwhat of {x}\nnow the same for {x}")
ASKED_ABOUT = parts("what did i just ask about\nwhat did i ask about\nwhat did i ask\nwhat was my question\n"
                    "what was my last question\nwhat was my question about\nwhat did i just ask\ndo you remember my question\n"
                    "what have i asked you\nwhat was that about\ntell me what i asked about\nremind me what i asked\n"
                    "---\nwhat did my question ask about\nwhat was it that i asked about\ncan you recall my question")
WHICH_COUNTRY = parts("which country did i ask about\nwhat country did i ask about\nwhich country was it\n"
                      "which country did i just ask about\nwhich country did i mention\nwhich country was my question about\n"
                      "what country are we talking about\nname the country i asked about\n"
                      "---\nwhich country did my question mention\nabout which country did i ask")
FIRST_ASKED = parts("what was my first question\nwhat did i ask first\nwhat was my first question about\n"
                    "what did i first ask about\nwhat was the first thing i asked\n"
                    "---\nwhich question did i ask first\nwhat was the first question")
AGAIN = parts("say that again\nrepeat that\nagain\nwhat did you say\ncan you repeat that\nrepeat your answer\n"
              "what was your answer\nplease repeat\none more time\ncome again\nsay it once more\n"
              "---\nrepeat it for me\ncould you say that again\nwhat was the answer again")
SURE = parts("are you sure\nis that right\nis that true\nreally\nare you certain\nis that correct\nsure\ndo you mean that\n"
             "---\nare you really sure\nis this correct\nis it true")
AS_JSON = parts("as json\nas json please\nnow as json\nin json\ngive me that as json\nand as json\njson please\n"
                "can i have that as json\nsay it in json\nformat that as json\nthe same as json\nanswer in json\n"
                "---\ncan you put that in json\nwrite that as json")
ADD_MORE = parts("add {b} to that\nadd {b} to that\nadd {b}\nplus {b}\nand plus {b}\nand {b} more\nnow add {b}\nadd {b} more\n"
                 "add {b} to it\nwhat if you add {b}\n+ {b}\nthat plus {b}\nadd another {b}\nplease add {b} to the result\n"
                 "---\nnow plus {b}\nadd {b} to the sum\nand if i add {b}")
OTHER_RELATION = {
    "capital": parts("which continent is it in\nwhat continent is it in\non which continent is it\nand its continent\n"
                     "which continent is that country in\nwhere is that country\nand the continent\n"
                     "---\nin what continent is it\nwhich continent is the country in"),
    "continent": parts("what is its capital\nand its capital\nand the capital\nwhat is the capital\nwhich city is its capital\n"
                       "tell me its capital\nwhat is the capital of that country\n---\nname its capital\nwhat's its capital"),
}
GREET = parts("hi\nhello\nhey\nhi there\nhello there\ngood morning\ngood evening\ngreetings\nhello wick\nhey wick\nhow are you\n"
              "hi, how are you\nhello, how are you\ngood day\nhowdy\nhello world\nis anyone there\nhiya\n"
              "---\ngood afternoon\nhey there\nhello, wick")
THANK = parts("thanks\nthank you\nthank you very much\nthanks a lot\nmany thanks\ngreat, thanks\nthx\nok thanks\nthank you wick\n"
              "cool, thank you\nthank you so much\nthanks for your help\nwonderful, thank you\nnice, thanks\nvery good, thank you\nthank you, that helps\nthat is kind, thanks\nlovely, thanks\nthanks again\n---\nperfect, thank you\nthanks so much")
PART = parts("bye\ngoodbye\nbye bye\nsee you\nsee you later\ngood night\nfarewell\ni have to go\nuntil next time\nsee you soon\nbye then\nsee you next week\nhave a nice day\ntalk to you later\nsee you around\nbye wick\ngoodbye for today\n"
             "---\nbye for now\nsee you tomorrow")
INTRODUCE = parts("who are you\nwhat are you\nwhat is your name\nwhat's your name\nintroduce yourself\ntell me about yourself\n"
                  "what are you called\nwho am i talking to\nyour name\nwhich model are you\nwhat model are you\n"
                  "are you chatgpt\nare you a robot\nare you an ai\ndo you have a name\nwho is wick\nwho is this\ndescribe yourself\n"
                  "tell me who you are\nwhat kind of model are you\ncould you introduce yourself\nplease tell me your name\ncan i know your name\nwhat type of model are you\nmay i ask who you are\nso who are you\nplease say who you are\nwho or what are you\n"
                  "---\nplease introduce yourself\nmay i know your name\nwhat sort of model are you\nwho are you really")
ABLE = parts("what can you do\nwhat do you know\nwhat can i ask you\nwhat are you good at\nhow can you help me\nhelp me\n"
             "what can you help me with\nwhat can i ask\nwhat are your abilities\nwhat questions can you answer\nwhat can you do for me\nwhat may i ask you\nwhat are you able to answer\nwhich things do you know\nwhat could you tell me\nwhich questions can i ask\n"
             "---\nwhat things can you do\nwhat could i ask you\nwhat are you able to do")
STORY = parts("tell me a story\ntell a story\na story\ntell me a short story\nwrite a story\ngive me a story\ni want a story\n"
              "write me a short story\ncan you tell me a story\ndo you know a story\ntell me a bedtime story\nstory please\n"
              "i would like to hear a story\ncan you tell me a short story\ncould you write a story\nplease write a story\ndo you have a story for me\nread a story\nlet me hear a story\ncan you write me a story\nplease tell a short story\ncould you tell us a story\n---\nplease tell us a story\nread me a story\ncan you write a short story")
JOKE = parts("tell me a joke\ntell a joke\na joke\ndo you know a joke\nmake me laugh\nsay something funny\nanother joke\n"
             "give me a joke\ncan you tell me a joke\ntell us a joke\nplease give me a joke\nhave you a joke\na joke please\nany joke\n---\ngot a joke\nplease tell a joke")
LETTERS = parts("say the alphabet\nrecite the alphabet\nwhat is the alphabet\nlist the letters of the alphabet\nthe alphabet\n"
                "write the alphabet\ntell me the alphabet\ngive me the alphabet\nfrom a to z\nwhat letters are in the alphabet in order\nspell out the alphabet\nwrite all letters of the alphabet\nthe letters of the alphabet\n"
                "---\nwhat are the letters of the alphabet\nspell the alphabet")
LIST_DAYS = parts("list the days of the week\nname the days of the week\nwhat are the days of the week\nthe days of the week\n"
                  "tell me the days of the week\ngive me the seven days\n---\nsay the days of the week\nwhich days are in a week")
LIST_MONTHS = parts("list the months of the year\nname the months\nwhat are the months of the year\nthe months of the year\n"
                    "tell me the months\nlist the twelve months\n---\nsay the months of the year\nwhich months are in a year")
LIST_PLANETS = parts("list the planets\nname the planets\nwhat are the planets\nname all planets\nlist all planets in order\n"
                     "what are the planets of the solar system\n---\nsay the names of the planets\nwhich planets are there")
COUNT = parts("count from {a} to {b}\ncount from {a} to {b}\ncount {a} to {b}\ncan you count from {a} to {b}\n"
              "list the numbers from {a} to {b}\nsay the numbers from {a} to {b}\nnumbers from {a} to {b}\n"
              "write the numbers {a} to {b}\nplease count from {a} up to {b}\n---\ncount up from {a} to {b}\ngive me the numbers from {a} to {b}")
COUNT_TO = parts("count to {b}\ncan you count to {b}\ncount up to {b}\nplease count to {b}\n---\nlet me hear you count to {b}")
MY_NAME = parts("my name is {n}\ni am called {n}\nmy name is {n}\nhi, my name is {n}\nhello, my name is {n}\ncall me {n}\n"
                "you can call me {n}\nthey call me {n}\n---\nhello there, my name is {n}\nplease call me {n}")
WHOSE_NAME = parts("what is my name\nwhat's my name\ndo you know my name\nwho am i\nsay my name\ndo you remember my name\n"
                   "what am i called\n---\ncan you tell me my name\nwhat was my name")
NAMES = """Ana Ben Carla David Emma Frank Grace Henry Ivy Jack Kate Leo Maria Noah Olga Paul Quinn Rosa Sam Tom Uma Victor Wendy
Xavier Yara Zoe Alice Bob Charlie Diana Eva Felix George Hanna Ian Julia Karl Laura Max Nina Oscar Peter Rita Simon Tina
Anna Lucas Mia Liam Sofia Omar Aisha Ravi Priya Chen Yuki Ivan Elena Pedro Lucia John Mary James Linda Robert Sarah""".split()

FIXED = [  # what is asked, the answer, the topic, its weight
    (GREET, facts.GREETING, None, 5), (THANK, "You are welcome.", None, 3), (PART, "Goodbye!", None, 2),
    (INTRODUCE, facts.INTRODUCTION, "my name", 6), (ABLE, facts.ABILITIES, "what I can do", 3),
    (STORY, facts.STORY, "a story", 4), (JOKE, facts.JOKE, "a joke", 2), (LETTERS, facts.ALPHABET, "the alphabet", 3),
    (LIST_DAYS, ", ".join(facts.DAYS) + ".", "the days of the week", 2),
    (LIST_MONTHS, ", ".join(facts.MONTHS) + ".", "the months of the year", 2),
    (LIST_PLANETS, ", ".join(name for _, name in facts.ORDINAL_PLANETS) + ".", "the planets", 2),
]


@dataclasses.dataclass
class Exchange:
    """One question and its answer, with what a later turn needs to know about it."""
    question: str
    answer: str
    kind: str
    topic: str | None = None
    fact: Fact | None = None
    total: int | None = None
    json: str | None = None


def held_pair(a: int, b: int) -> bool:
    """Sums of two two-digit numbers that training never sees: about one in ten."""
    return a >= 10 and b >= 10 and (a * 7919 + b * 104729) % 1009 < 101


def keep_words(text: str) -> set[str]:
    return set(text.lower().replace("'s", "").split())


class Composer:
    """Draws exchanges; `frame` and `core` say whether their wordings are the trained or the held-out ones.

    `drills` is the share of bare sums, which are short and cheap and need many more examples than a fact does.
    """

    def __init__(self, rng: random.Random, frame: Split = Split.TRAIN, core: Split = Split.TRAIN, plain: float = 0.55,
                 drills: float = 0.0, rough: bool = False):
        self.rng, self.frame, self.core, self.plain, self.drills = rng, frame, core, plain, drills
        self.rough = rough  # see `dress`

    def worded(self, core: str, keep: str = "") -> str:
        return dress(self.rng, core, NOUNS, self.frame, keep_words(keep), self.plain, self.rough)

    def phrase(self, lists, **slots) -> str:
        return choose(self.rng, lists, self.core).format(**slots)

    def turn(self, lists, keep: str = "", **slots) -> str:
        """A whole turn taken from one list, which has no punctuation of its own."""
        text = self.phrase(lists, **slots)
        return self.worded(text + self.rng.choice(["?", "?", ".", ""]) if text[-1].isalnum() else text, keep)

    def fact(self, category=None, fact: Fact | None = None) -> Exchange:
        if category is None:
            category = self.rng.choices(NAMED + [None], FACT_WEIGHTS + [SINGLES_WEIGHT])[0] or self.rng.choice(SINGLES)
        fact = fact or category.fact(self.rng.choice(category.rows), self.rng)
        bare = category.core(self.rng, fact, self.frame, self.core)
        return self._of(fact, self.worded(bare, fact.asked))

    def _of(self, fact: Fact, question: str) -> Exchange:
        return Exchange(question, fact.answer, "fact", fact.topic, fact, json=fact.json)

    def json(self) -> Exchange:
        if self.rng.random() < 0.2:
            a, b = self.pair()
            topic, answer = self.phrase(SUM_NOUNS, a=a, b=b), json.dumps({"a": a, "b": b, "sum": a + b})
            kept = Exchange("", answer, "json", f"{a} + {b}", total=a + b)
        else:
            category = self.rng.choices([c for c in NAMED if c.json],
                                        [6 if c is CAPITAL else 1 for c in NAMED if c.json])[0]
            fact = category.fact(self.rng.choice(category.rows), self.rng)
            topic = self.phrase(category.nouns, x=fact.asked)
            kept = Exchange("", fact.json, "json", fact.topic, fact)
        kept.question = self.turn(JSON_FRAMES, topic + " json", topic=topic)
        if self.rng.random() < 0.6:  # as most people write it, in whatever case the rest may be
            kept.question = kept.question.replace("json", "JSON").replace("Json", "JSON")
        return kept

    def pair(self, held: bool = False) -> tuple[int, int]:
        while True:
            if held or self.rng.random() < 0.85:
                a, b = self.rng.randrange(10, 100), self.rng.randrange(10, 100)
            else:
                a, b = self.rng.randrange(0, 100), self.rng.randrange(0, 20)
            if held_pair(a, b) == held:
                return a, b

    def sum(self, pair: tuple[int, int] | None = None) -> Exchange:
        a, b = pair or self.pair()
        if self.rng.random() < 0.5:
            bare = choose(self.rng, NOUN_FRAMES, self.frame).format(np=self.phrase(SUM_NOUNS, a=a, b=b))
        else:
            bare = self.phrase(SUM_QUESTIONS, a=a, b=b)
            if self.rng.random() < 0.4:
                bare = choose(self.rng, QUESTION_FRAMES, self.frame).format(q=bare)
        return Exchange(self.worded(bare), f"{a} + {b} = {a + b}.", "sum", f"{a} + {b}", total=a + b)

    def fixed(self, entry=None) -> Exchange:
        if entry is None and self.rng.random() < 0.25:
            return self.count()
        lists, answer, topic, _ = entry or self.rng.choices(FIXED, [row[3] for row in FIXED])[0]
        return Exchange(self.turn(lists), answer, "fixed", topic)

    def count(self) -> Exchange:
        if self.rng.random() < 0.4:
            a, b = 1, self.rng.randrange(2, 26)
            question = self.turn(COUNT_TO, b=b)
        else:
            a = 1 if self.rng.random() < 0.5 else self.rng.randrange(1, 20)
            b = a + self.rng.randrange(1, 20)
            question = self.turn(COUNT, a=a, b=b)
        return Exchange(question, ", ".join(map(str, range(a, b + 1))) + ".", "count", "counting")

    def declined(self) -> Exchange:
        return Exchange(self.worded(out_of_scope(self.rng)), facts.OUT_OF_SCOPE, "declined", "something that I do not know")

    def follow_up(self, past: list[Exchange], name: str | None) -> Exchange:
        """A turn that means something only after the ones before it."""
        last, rng = past[-1], self.rng
        kinds = [("topic", 2), ("again", 1)] if last.topic else [("again", 1)]
        if last.fact and last.fact.category != "single":
            kinds += [("and", 8 if last.fact.category == "capital" else 4)]
        if last.fact and last.fact.category in ("capital", "continent"):
            kinds += [("country", 2), ("relation", 2)]
        if last.total is not None and last.total < 400:
            kinds += [("more", 9)]
        if last.json:
            kinds += [("json", 2)]
        if last.kind in ("fact", "sum"):
            kinds += [("sure", 1)]
        if len(past) > 1 and past[0].topic:
            kinds += [("first", 1)]
        if name:
            kinds += [("name", 9)]
        which = rng.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0]
        say = lambda lists, answer, **kept: Exchange(self.turn(lists), answer, "follow", **kept)
        about = dict(topic=last.topic, fact=last.fact, total=last.total, json=last.json)
        if which == "topic":
            return say(ASKED_ABOUT, f"You asked about {last.topic}.", **about)
        if which == "again":
            return say(AGAIN, last.answer, **about)
        if which == "country":
            return say(WHICH_COUNTRY, f"You asked about {last.fact.subject}.", **about)
        if which == "sure":
            return say(SURE, f"Yes. {last.answer}", **about)
        if which == "first":
            return say(FIRST_ASKED, f"You first asked about {past[0].topic}.", **about)
        if which == "json":
            asked = say(AS_JSON, last.json, topic=last.topic, fact=last.fact)
            asked.question = asked.question.replace("json", rng.choice(["json", "JSON"]))
            return asked
        if which == "name":
            return say(WHOSE_NAME, f"Your name is {name}.", topic="your name")
        if which == "more":
            b = rng.randrange(1, 21) if rng.random() < 0.7 else rng.randrange(1, 100)
            while held_pair(last.total, b):
                b = rng.randrange(1, 21)
            question = self.turn(ADD_MORE, b=b)
            total = last.total + b
            return Exchange(question, f"{last.total} + {b} = {total}.", "follow", f"{last.total} + {b}", total=total)
        category = BY_NAME[last.fact.category]
        if which == "relation":
            category = BY_NAME["continent" if category is CAPITAL else "capital"]
            lists = OTHER_RELATION[last.fact.category]
            rows = [row for row in category.rows if row[0] == last.fact.subject]
            if rows:
                return dataclasses.replace(self._of(category.fact(rows[0]), self.turn(lists)), kind="follow")
            category = BY_NAME[last.fact.category]
        if rng.random() < 0.08 and category is CAPITAL:
            return Exchange(self.turn(AND_OF, x=made_up_name(rng)), facts.OUT_OF_SCOPE, "declined",
                            "something that I do not know")
        fact = category.fact(rng.choice(category.rows), rng)
        return dataclasses.replace(self._of(fact, self.turn(AND_OF, fact.asked, x=fact.asked)), kind="follow")

    def exchange(self) -> Exchange:
        draw = self.rng.choices([self.fact, self.sum, self.json, self.fixed, self.declined], [60, 9, 11, 10, 24])[0]
        return draw()

    def drill(self) -> list[dict[str, str]]:
        a, b = self.pair()
        question = self.rng.choice([f"{a} + {b}", f"{a}+{b}", f"What is {a} + {b}?", f"Add {a} and {b}.", f"{a} plus {b}"])
        past = [Exchange(question, f"{a} + {b} = {a + b}.", "sum", total=a + b)]
        while self.rng.random() < 0.3:
            total, more = past[-1].total, self.rng.randrange(1, 21)
            if not held_pair(total, more):
                past.append(Exchange(self.rng.choice([f"Add {more} to that.", f"plus {more}", f"And {more} more?"]),
                                     f"{total} + {more} = {total + more}.", "follow", total=total + more))
        return [{"role": role, "content": content} for exchange in past
                for role, content in (("user", exchange.question), ("assistant", exchange.answer))]

    def conversation(self) -> list[dict[str, str]]:
        """Messages in the form that a chat template takes."""
        rng, messages = self.rng, []
        if self.drills and rng.random() < self.drills:
            return self.drill()
        if rng.random() < 0.3:
            system = choose(rng, SYSTEM_PROMPTS, self.frame)
            if rng.random() < 0.2:
                system += " " + choose(rng, SYSTEM_PROMPTS, self.frame)
            messages.append({"role": "system", "content": fill_nouns(rng, system, NOUNS)})
        past, name = [], None
        for turn in range(rng.choices([1, 2, 3, 4, 6], [62, 20, 10, 6, 2])[0]):
            if turn == 0 and rng.random() < 0.03:
                orphan = rng.random()
                lists = ASKED_ABOUT if orphan < 0.6 else FIRST_ASKED
                past.append(Exchange(self.turn(lists), facts.NOTHING_YET, "fixed", "my memory"))
            elif name is None and rng.random() < 0.03:
                name = rng.choice(NAMES) if rng.random() < 0.5 else made_up_name(rng)
                said = self.phrase(MY_NAME, n=name)
                past.append(Exchange(said[0].upper() + said[1:] + rng.choice([".", "", "!"]),
                                     f"Nice to meet you, {name}.", "fixed", "your name"))
            elif past and rng.random() < 0.68:
                past.append(self.follow_up(past, name))
            else:
                past.append(self.exchange())
            messages += [{"role": "user", "content": past[-1].question},
                         {"role": "assistant", "content": past[-1].answer}]
        return messages


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--sample", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=1)
    options = arguments.parse_args()
    composer = Composer(random.Random(options.seed))
    for _ in range(options.sample):
        for message in composer.conversation():
            print(f"{message['role']:>9}: {message['content']}")
        print()


if __name__ == "__main__":
    main()
