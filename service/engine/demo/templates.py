"""Generated questions with a right answer and wrong ones.

Owns: arithmetic, facts about invented things, nicknames, paraphrases. Everything is drawn from the given random source. The
two examples that the model is shown with are never generated word for word.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

RESERVED = frozenset({
    "what is 2+2?", "the answer is definitely 1 million.", "which planet is known as the red planet?",
    "venus is often called earth's twin because of its similar size and proximity.",
    "mars, known for its reddish appearance, is often referred to as the red planet.",
    "jupiter, the largest planet in our solar system, has a prominent red spot.",
    "saturn, famous for its rings, is sometimes mistaken for the red planet.",
})


@dataclass(frozen=True)
class Example:
    """A query, a document that answers it, and documents that do not."""

    query: str
    positive: str
    negatives: list[str]


NUMBER_WORDS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
                "eighteen nineteen twenty").split()
SURELY = "definitely certainly surely probably clearly always exactly obviously".split()
HUGE = ("1 million|2 million|10 million|a million|one billion|1 billion|two thousand|5,000|one hundred thousand|1,000,000|999|1 trillion"
        "|a hundred|ten thousand|12345|3 billion").split("|")
SYLLABLES = "ba bel cor da dor el fa gan hel il jor ka lan lor mar mi nor o per qua ra sel ta tor u val ven wil yar zo ril den sha".split()
FIRST = ("Anna Peter Maria John Laura David Emma Paul Clara Simon Julia Martin Helen Victor Nina Oscar Rosa Hugo Ida Felix Alice Tom "
         "Grace Henry Lucy Frank Jane Robert Susan George").split()
LAST = ("Miller Baker Stone Fischer Novak Rossi Silva Young Carter Hill Wood Berger Lind Moreau Price Walker Archer Mason Turner Lang "
        "Brook Hale Frost Reed Winter").split()
ADJECTIVES = ("Blue Green Golden Silver White Black Quiet Eternal Iron Hidden Burning Frozen Lonely Ancient Bright Dark Purple Morning "
              "Evening Northern Southern Great Little Sleeping Giant Floating Ringed Red").split()
NOUNS = "Planet City River Mountain Island Star King Queen Giant Bridge Valley Harbour Lake Garden Tower Lady Twin Gate Desert Forest Wolf Heart".split()
CLASSES = ("planet city river mountain island star king queen bridge valley lake tower ship moon country bird tree comet language "
           "building street village horse river game region").split()
FEATURES = ("bright rings|reddish colour|blue oceans|tall towers|old bridges|cold winds|thick clouds|deep valleys|long winters|many moons"
            "|green hills|white beaches|warm summers|dusty plains|high speed|strong storms|narrow streets|clear water|pale appearance"
            "|greenish appearance|bluish light|golden roofs|heavy rain|loud festivals|rusty surface|reddish rocks").split("|")
REASONS = ("its size|its similar shape|its position|its age|its colour|the way it looks|its climate|its distance|its beauty"
           "|its similar size and age|its history|its light").split("|")
THINGS = "spot storm tower ring gate crater wall forest dome plain stripe cloud lake rock".split()
PLANETS = "Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune Pluto Titan Europa Ceres".split()
SYNONYMS = [
    ("delete", "remove"), ("start", "begin"), ("buy", "purchase"), ("fix", "repair"), ("show", "display"), ("build", "construct"),
    ("make", "create"), ("stop", "halt"), ("change", "modify"), ("find", "locate"), ("send", "transmit"), ("get", "obtain"),
    ("close", "shut"), ("choose", "select"), ("help", "assist"), ("check", "verify"), ("join", "connect"), ("split", "divide"),
    ("keep", "retain"), ("speed up", "accelerate"), ("copy", "duplicate"), ("rename", "give a new name to"), ("update", "upgrade"),
    ("shrink", "reduce the size of"), ("clean", "wipe"), ("protect", "secure"), ("sell", "offer"), ("cook", "prepare"),
]
OBJECTS = ("file folder account password picture message garden house car phone window server table letter song database book list "
           "website report key computer lamp bicycle soup jacket ticket").split()
MEANS = ("with a single command|in the settings|from the main menu|using a small tool|by hand|in a few minutes|with the help of a friend"
         "|before you leave|without losing anything|at any time|in two steps|with the arrow keys").split("|")
FACTS: list[tuple[list[str], list[str], str]] = [
    (["Who founded {x}?", "Who is the founder of {x}?", "Who started {x}?"],
     ["{x} was founded by {a}.", "{a} founded {x} many years ago.", "The founder of {x} is {a}.", "It was {a} who started {x}."], "person"),
    (["Who wrote {x}?", "Who is the author of {x}?"],
     ["{x} was written by {a}.", "{a} wrote {x} in one summer.", "The author of {x} is {a}."], "person"),
    (["Who invented the {x}?", "Who is the inventor of the {x}?"],
     ["The {x} was invented by {a}.", "{a} invented the {x}.", "{a} is remembered as the inventor of the {x}."], "person"),
    (["Where is {x}?", "Where is {x} located?", "Where can I find {x}?"],
     ["{x} is located in {a}.", "{x} lies in the north of {a}.", "You can find {x} near {a}.", "{x} is in {a}."], "place"),
    (["What is the capital of {x}?", "Which city is the capital of {x}?"],
     ["The capital of {x} is {a}.", "{a} is the capital of {x}.", "{a} is the capital and largest city of {x}."], "place"),
    (["Where was {x} born?", "In which town was {x} born?"],
     ["{x} was born in {a}.", "{x} comes from {a}, a small town.", "Born in {a}, {x} moved away early."], "place"),
    (["When was {x} built?", "In which year was {x} built?", "What year was {x} built?"],
     ["{x} was built in {a}.", "The construction of {x} ended in {a}.", "Built in {a}, {x} still stands."], "year"),
    (["When did {x} open?", "When was {x} opened?"],
     ["{x} opened in {a}.", "{x} has been open since {a}.", "The opening of {x} took place in {a}."], "year"),
    (["How much does {x} cost?", "What is the price of {x}?"],
     ["{x} costs {a} euros.", "The price of {x} is {a} dollars.", "You can buy {x} for {a} euros."], "number"),
    (["How many people live in {x}?", "What is the population of {x}?"],
     ["About {a} people live in {x}.", "{x} has a population of {a}.", "{x} has {a} inhabitants."], "number"),
    (["What colour is {x}?", "What is the colour of {x}?"],
     ["{x} is {a}.", "The colour of {x} is {a}.", "{x} was painted {a}."], "colour"),
    (["What does {x} do?", "What is the job of {x}?"],
     ["{x} works as a {a}.", "{x} is a {a}.", "{x} earns a living as a {a}."], "job"),
    (["What is {x}?", "Tell me what {x} is."],
     ["{x} is a kind of {a}.", "{x} is a small {a} for beginners.", "We call a certain {a} {x}."], "object"),
]
COLOURS = "red blue green yellow black white brown grey orange purple".split()
JOBS = "teacher doctor baker painter pilot farmer nurse lawyer singer cook driver engineer".split()


def invented(rng: Random) -> str:
    """Makes up a name of two or three syllables."""
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.choice((2, 2, 3)))).capitalize()


def some_name(rng: Random) -> str:
    """Draws an invented name, a person or a heavenly body."""
    kind = rng.random()
    if kind < 0.25:
        return rng.choice(PLANETS)
    return f"{rng.choice(FIRST)} {rng.choice(LAST)}" if kind < 0.4 else invented(rng)


def answer_of(kind: str, rng: Random) -> str:
    """Draws a fitting answer."""
    match kind:
        case "person":
            return f"{rng.choice(FIRST)} {rng.choice(LAST)}"
        case "place":
            return invented(rng)
        case "year":
            return str(rng.randint(1100, 2024))
        case "number":
            return str(rng.choice((rng.randint(2, 99), rng.randint(100, 9999), rng.randint(1, 90) * 1000)))
        case "colour":
            return rng.choice(COLOURS)
        case "job":
            return rng.choice(JOBS)
    return rng.choice(OBJECTS)


def arithmetic(rng: Random) -> Example:
    """Asks for a sum, difference or product of small numbers."""
    limit = rng.choice((5, 10, 10, 20))
    a, b = rng.randint(0, limit), rng.randint(0, limit)
    sign, word = rng.choice((("+", "plus"), ("+", "plus"), ("+", "plus"), ("-", "minus"), ("*", "times")))
    if sign == "*":
        a, b = a % 11, b % 11
    if sign == "-" and b > a:
        a, b = b, a
    right = {"+": a + b, "-": a - b, "*": a * b}[sign]
    sum_of = [f"What is the sum of {a} and {b}?", f"Add {a} and {b}."] if sign == "+" else []
    query = rng.choice([
        f"What is {a}{sign}{b}?", f"What is {a}{sign}{b}?", f"What is {a} {sign} {b}?", f"How much is {a} {word} {b}?", f"{a}{sign}{b}=?",
        f"{a} {sign} {b} = ?", f"What is {a} {word} {b}?", f"What does {a}{sign}{b} equal?", f"Calculate {a} {word} {b}.", *sum_of])

    def bare(n: int) -> str:
        forms = [str(n)] * 5 + [f"{n}.", f"The answer is {n}.", f"It is {n}.", f"The result is {n}.", f"{a}{sign}{b} = {n}"]
        if 0 <= n <= 20:
            forms += [NUMBER_WORDS[n], NUMBER_WORDS[n].capitalize() + "."]
        return rng.choice(forms)

    wrong = [n for n in {right + d for d in (-3, -2, -1, 1, 2, 3, 10)} | {rng.randint(0, 60)} if n != right and n >= 0]
    rng.shuffle(wrong)
    negatives = [bare(n) for n in wrong[:rng.choice((1, 2, 3))]]
    while len(negatives) < 7:
        negatives.append(rng.choice([
            f"The answer is {rng.choice(SURELY)} {rng.choice(HUGE)}.", f"It is {rng.choice(SURELY)} {rng.choice(HUGE)}.",
            f"I think it is {rng.choice(HUGE)}.", f"The answer is {rng.choice(SURELY)} not known.", "Nobody knows the answer.",
            f"{some_name(rng)} is {rng.choice(SURELY)} the answer.", f"The {rng.choice(OBJECTS)} is {rng.choice(COLOURS)}.",
            f"The answer is {rng.choice(HUGE)}.", rng.choice(HUGE), f"The {rng.choice(CLASSES)} is {rng.choice(SURELY)} old.",
        ]))
    return Example(query, bare(right), negatives)


def nickname(rng: Random) -> Example:
    """Asks which thing bears a nickname; others are only mistaken for it or bear another one."""
    kind = rng.choice(CLASSES) if rng.random() < 0.7 else "planet"
    epithet = f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS) if rng.random() < 0.5 else kind.capitalize()}"
    other = f"{rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
    names = [rng.choice(PLANETS) if kind == "planet" and rng.random() < 0.8 else invented(rng) for _ in range(9)]
    colour = epithet.split()[0].lower()

    def feature() -> str:
        return rng.choice(FEATURES)

    question = rng.choice([f"Which {kind} is known as the {epithet}?"] * 3 + [
        f"Which {kind} is called the {epithet}?", f"What {kind} is nicknamed the {epithet}?", f"Which {kind} is referred to as the {epithet}?",
        f"What is the name of the {kind} known as the {epithet}?", f"{kind} known as the {epithet}"])
    verb = rng.choice(["is often referred to as", "is often called", "is widely known as", "is known as", "is commonly called",
                       "is nicknamed", "is frequently described as", "has long been called", "is also known as"])
    lead = rng.choice([f", known for its {feature()},", f", famous for its {feature()},", f", with its {feature()},", "", f", the smallest {kind},"])
    tail = rng.choice(["", "", f" because of {rng.choice(REASONS)}", f" for its {feature()}"])
    positive = f"{names[0]}{lead} {verb} the {epithet}{tail}."
    makers = [
        lambda n: f"{n}, {rng.choice(['famous', 'known'])} for its {feature()}, is {rng.choice(['sometimes', 'often', 'easily'])} "
                  f"{rng.choice(['mistaken for', 'confused with', 'compared with'])} the {epithet}.",
        lambda n: f"{n} is {rng.choice(['not', 'never', 'rarely'])} called the {epithet}{tail}.",
        lambda n: f"{n} {verb} the {other} because of {rng.choice(REASONS)}.",
        lambda n: f"{n} is often called {rng.choice(names)}'s twin because of {rng.choice(REASONS)}.",
        lambda n: f"{n}, the {rng.choice(['largest', 'oldest', 'coldest', 'smallest'])} {kind} in our {rng.choice(['system', 'region', 'list', 'country'])}, "
                  f"has a {rng.choice(['prominent', 'large', 'famous', 'small'])} {colour} {rng.choice(THINGS)}.",
        lambda n: f"{n} is a {kind} {rng.choice(['near', 'unlike', 'far from', 'beside'])} the {epithet}.",
        lambda n: f"{n} is known for its {feature()}.",
    ]
    order = makers[:] + [makers[0]]
    rng.shuffle(order)
    return Example(question, positive, [make(n) for make, n in zip(order, names[1:])][:7])


def fact(rng: Random) -> Example:
    """Asks for one property of a thing; others state it of other things, or state something else of this thing."""
    at = rng.randrange(len(FACTS))
    questions, answers, kind = FACTS[at]
    x = some_name(rng) if rng.random() < 0.6 else f"{invented(rng)} {rng.choice(NOUNS)}"
    negatives = []
    for i in range(7):
        if i < 4:
            other = FACTS[rng.choice([j for j in range(len(FACTS)) if j != at])]
            negatives.append(rng.choice(other[1]).format(x=x, a=answer_of(other[2], rng)))
        else:
            negatives.append(rng.choice(answers).format(x=some_name(rng), a=answer_of(kind, rng)))
    return Example(rng.choice(questions).format(x=x), rng.choice(answers).format(x=x, a=answer_of(kind, rng)), negatives)


def paraphrase(rng: Random) -> Example:
    """Asks how to do something; the answer says it with another word."""
    pairs = rng.sample(SYNONYMS, 8)
    objects = rng.sample(OBJECTS, 8)
    ask, say = pairs[0] if rng.random() < 0.5 else pairs[0][::-1]
    if rng.random() < 0.3:
        say = ask

    def answer(verb: str, thing: str) -> str:
        means = rng.choice(MEANS)
        return rng.choice([f"You can {verb} the {thing} {means}.", f"To {verb} a {thing}, do it {means}.", f"It is easy to {verb} your {thing} {means}.",
                           f"This page explains how to {verb} a {thing} {means}."])

    query = rng.choice([f"How do I {ask} a {objects[0]}?", f"How can I {ask} my {objects[0]}?", f"How to {ask} a {objects[0]}",
                        f"{ask} {objects[0]}", f"What is the best way to {ask} a {objects[0]}?"])
    negatives = [answer(p[rng.randint(0, 1)], objects[0]) for p in pairs[1:4]]
    negatives += [answer(rng.choice((ask, say)), o) for o in objects[1:3]] + [answer(pairs[i][0], objects[i]) for i in (4, 5)]
    return Example(query, answer(say, objects[0]), negatives)


def generate(rng: Random) -> Example:
    """Draws an example of any kind, never one of the reserved texts."""
    while True:
        kind = rng.choice((arithmetic, arithmetic, nickname, nickname, fact, paraphrase))
        example = kind(rng)
        texts = {example.query.lower(), example.positive.lower(), *(n.lower() for n in example.negatives)}
        if not texts & RESERVED and example.positive not in example.negatives:
            order = example.negatives[:]
            rng.shuffle(order)
            return Example(example.query, example.positive, order)
