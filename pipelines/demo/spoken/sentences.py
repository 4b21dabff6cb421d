"""Draws sentences: wordings with their slots filled, numbers, dates and times written as words, and words in no order at all.

Sentences are divided in two by a hash of their words, whatever the seed: those of one part are never drawn in training.
"""

import hashlib
import random
import re

import wordings
from wordings import SLOTS

ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen " \
    "nineteen".split()
TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()
FIRST = "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth " \
    "sixteenth seventeenth eighteenth nineteenth".split()
MONTH_DAYS = dict(February=29, April=30, June=30, September=30, November=30)
# One sentence in this many is held out.
HELD_OUT = 12
# Words that sound like others of the list ("two", "four", "buy"): only a sentence tells which is meant.
ALIKE = {"to", "too", "for", "by", "oh"}
# What one can be asked politely to do begins so.
ASKED = set("turn switch open close lock start stop make dim set wake cancel remind play skip repeat call send write tell read add put "
            "take buy show book find help say go".split())


def cardinal(n: int) -> str:
    if n < 20:
        return ONES[n]
    if n < 100:
        return TENS[n // 10] + (f"-{ONES[n % 10]}" if n % 10 else "")
    for size, name in ((1_000_000, "million"), (1000, "thousand"), (100, "hundred")):
        if n >= size:
            rest = n % size
            joint = " and " if rest < 100 else " "
            return f"{cardinal(n // size)} {name}" + (joint + cardinal(rest) if rest else "")
    raise ValueError(n)


def ordinal(n: int) -> str:
    if n < 20:
        return FIRST[n]
    return TENS[n // 10][:-1] + "ieth" if n % 10 == 0 else f"{TENS[n // 10]}-{FIRST[n % 10]}"


def year(rng: random.Random) -> str:
    n = rng.randint(1700, 2039)
    if 2000 <= n < 2010:
        return "two thousand" + (f" and {ONES[n % 100]}" if n % 100 else "")
    rest = n % 100
    return f"{cardinal(n // 100)} " + ("hundred" if rest == 0 else f"oh {ONES[rest]}" if rest < 10 else cardinal(rest))


def clock(rng: random.Random) -> str:
    hour = ONES[rng.randint(1, 12)]
    kind = rng.randrange(10)
    if kind < 2:
        return rng.choice(["half past", "quarter past", "quarter to"]) + f" {hour}"
    if kind < 4:
        return f"{rng.choice(['five', 'ten', 'twenty', 'twenty-five'])} {rng.choice(['past', 'to'])} {hour}"
    if kind < 6:
        return f"{hour} o'clock"
    if kind == 6 and rng.random() < 0.4:
        return rng.choice(["noon", "midnight"])
    minutes = rng.randint(1, 59)
    return f"{hour} " + (f"oh {ONES[minutes]}" if minutes < 10 else cardinal(minutes))


def date(rng: random.Random) -> str:
    month = rng.choice(SLOTS["month"])
    day = ordinal(rng.randint(1, MONTH_DAYS.get(month, 31)))
    return f"the {day} of {month}" if rng.random() < 0.5 else f"{month} the {day}"


def number(rng: random.Random) -> str:
    return cardinal(rng.randint(0, rng.choice([20, 100, 100, 1000, 1000, 10_000, 1_000_000, 9_000_000])))


def duration(rng: random.Random) -> str:
    unit, most = rng.choice([("minute", 60), ("minute", 60), ("second", 60), ("hour", 12), ("day", 14)])
    n = rng.randint(1, most)
    if n == 1:
        return "an hour" if unit == "hour" else f"one {unit}"
    half = " and a half" if unit == "hour" and rng.random() < 0.3 else ""
    return f"{cardinal(n)}{half} {unit}s"


def digits(rng: random.Random) -> str:
    return " ".join(ONES[rng.randrange(10)] if rng.random() < 0.9 else "oh" for _ in range(rng.randint(3, 8)))


NUMBERS = {
    "number": number, "clock": clock, "date": date, "year": year, "duration": duration, "digits": digits,
    "small": lambda rng: cardinal(rng.randint(1, 12)),
    "count": lambda rng: cardinal(rng.randint(2, rng.choice([12, 30, 100, 1000]))),
    "teens": lambda rng: cardinal(rng.randint(11, 35)),
    "tens": lambda rng: cardinal(10 * rng.randint(1, 10)),
}


def filled(rng: random.Random, wording: str) -> str:
    fill = lambda slot: NUMBERS[slot[1]](rng) if slot[1] in NUMBERS else rng.choice(SLOTS[slot[1]])
    return re.sub(r"\{(\w+)\}", fill, wording)


def written(text: str) -> str:
    """As a sentence: a capital first, a mark last."""
    text = text.strip()
    text = text if text[-1] in ".?!" else text + "."
    return text[0].upper() + text[1:]


def all_words() -> list[str]:
    """Every word that a sentence may have, names with their capital."""
    texts = [line for lists in (wordings.COMMANDS, wordings.STATEMENTS) for part in lists for line in part]
    texts += [value for values in SLOTS.values() for value in values] + ONES + TENS[2:] + FIRST[1:]
    texts += ["hundred thousand million half past quarter o'clock noon midnight minutes seconds hours days oh"]
    found = re.findall(r"[A-Za-z']+", re.sub(r"\{\w+\}", " ", " ".join(texts)))
    return sorted(set(found) - ALIKE)


WORDS = all_words()


def plain(text: str) -> list[str]:
    """The words alone, as they are counted for the word error rate."""
    return re.sub(r"[^a-z' ]+", " ", text.lower().replace("-", " ")).split()


def is_held_out(text: str) -> bool:
    return hashlib.blake2b(" ".join(plain(text)).encode(), digest_size=4).digest()[0] * HELD_OUT < 256


class Sentences:
    """Endless sentences. `part` is "train", "held-out" (training wordings, sentences never trained on), "wordings" (wordings that
    training has not) or "salad" (words in no order, none of which training has as a whole)."""

    def __init__(self, rng: random.Random, part: str):
        self.rng, self.part = rng, part

    def draw(self) -> str:
        while True:
            text = written(self._compose())
            if len(plain(text)) <= 14 and is_held_out(text) == (self.part != "train"):
                return text

    def _compose(self) -> str:
        rng = self.rng
        at = 1 if self.part == "wordings" else 0
        share = rng.random()
        if self.part == "salad" or (self.part == "train" and share < 0.15):
            return " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, 8)))
        if share < 0.55:
            wording = rng.choice(wordings.COMMANDS[at])
            start = rng.choice(SLOTS["polite"]) if wording.split()[0] in ASKED else ""
            text = filled(rng, start + wording)
            return text + "?" if start in ("Can you ", "Could you ") else text
        return filled(rng, rng.choice(wordings.STATEMENTS[at]))


def main():
    for part in ("train", "held-out", "wordings", "salad"):
        source = Sentences(random.Random(1), part)
        print(f"{part}:", *(source.draw() for _ in range(12)), sep="\n  ")
    print(len(WORDS), "words;", len(wordings.COMMANDS[0]) + len(wordings.STATEMENTS[0]), "wordings,",
          len(wordings.COMMANDS[1]) + len(wordings.STATEMENTS[1]), "more held out")


if __name__ == "__main__":
    main()
