"""What the demo model knows: plain tables of facts, each of them true.

Apart from the wordings because a fact is checked against the world, and a wording against English.
"""

# Country as it stands in a sentence, capital, continent (None where it lies on two).
COUNTRIES = [tuple(field.strip() or None for field in line.split("|")) for line in """
France|Paris|Europe
Italy|Rome|Europe
Spain|Madrid|Europe
Portugal|Lisbon|Europe
Germany|Berlin|Europe
Austria|Vienna|Europe
Belgium|Brussels|Europe
the Netherlands|Amsterdam|Europe
Denmark|Copenhagen|Europe
Norway|Oslo|Europe
Sweden|Stockholm|Europe
Finland|Helsinki|Europe
Iceland|Reykjavik|Europe
Ireland|Dublin|Europe
the United Kingdom|London|Europe
Poland|Warsaw|Europe
Hungary|Budapest|Europe
Romania|Bucharest|Europe
Bulgaria|Sofia|Europe
Greece|Athens|Europe
Serbia|Belgrade|Europe
Croatia|Zagreb|Europe
Slovenia|Ljubljana|Europe
Slovakia|Bratislava|Europe
Albania|Tirana|Europe
Estonia|Tallinn|Europe
Latvia|Riga|Europe
Lithuania|Vilnius|Europe
Ukraine|Kyiv|Europe
Russia|Moscow|
Turkey|Ankara|
Egypt|Cairo|
Morocco|Rabat|Africa
Tunisia|Tunis|Africa
Algeria|Algiers|Africa
Libya|Tripoli|Africa
Kenya|Nairobi|Africa
Ethiopia|Addis Ababa|Africa
Ghana|Accra|Africa
Nigeria|Abuja|Africa
Senegal|Dakar|Africa
Uganda|Kampala|Africa
Zambia|Lusaka|Africa
Angola|Luanda|Africa
Namibia|Windhoek|Africa
Madagascar|Antananarivo|Africa
China|Beijing|Asia
Japan|Tokyo|Asia
South Korea|Seoul|Asia
India|New Delhi|Asia
Pakistan|Islamabad|Asia
Nepal|Kathmandu|Asia
Bangladesh|Dhaka|Asia
Thailand|Bangkok|Asia
Vietnam|Hanoi|Asia
Malaysia|Kuala Lumpur|Asia
Mongolia|Ulaanbaatar|Asia
the Philippines|Manila|Asia
Iran|Tehran|Asia
Iraq|Baghdad|Asia
Jordan|Amman|Asia
Saudi Arabia|Riyadh|Asia
Qatar|Doha|Asia
Canada|Ottawa|North America
the United States|Washington, D.C.|North America
Mexico|Mexico City|North America
Cuba|Havana|North America
Jamaica|Kingston|North America
Brazil|Brasília|South America
Argentina|Buenos Aires|South America
Chile|Santiago|South America
Peru|Lima|South America
Colombia|Bogotá|South America
Ecuador|Quito|South America
Uruguay|Montevideo|South America
Venezuela|Caracas|South America
Paraguay|Asunción|South America
Australia|Canberra|
New Zealand|Wellington|
Fiji|Suva|
""".strip().splitlines()]

# Other names under which a user may ask for a country of the table.
COUNTRY_ALIASES = {
    "the United States": ["the USA", "the US", "America", "the United States of America"],
    "the United Kingdom": ["the UK", "Britain", "Great Britain"],
    "the Netherlands": ["Holland", "Netherlands"],
    "the Philippines": ["Philippines"],
}


def _pairs(text):
    return [tuple(part.strip() for part in line.split("|")) for line in text.strip().splitlines()]


SYMBOLS = _pairs("""
gold|Au
silver|Ag
iron|Fe
copper|Cu
lead|Pb
tin|Sn
zinc|Zn
oxygen|O
hydrogen|H
helium|He
carbon|C
nitrogen|N
sodium|Na
potassium|K
calcium|Ca
mercury|Hg
neon|Ne
sulfur|S
chlorine|Cl
aluminium|Al
uranium|U
nickel|Ni
""")

LEGS = _pairs("""
a spider|8
an ant|6
a dog|4
a cat|4
a horse|4
a cow|4
a bird|2
a bee|6
a chicken|2
a beetle|6
a scorpion|8
a snake|0
an elephant|4
a fly|6
a frog|4
""")

SIDES = _pairs("""
a triangle|3
a square|4
a rectangle|4
a pentagon|5
a hexagon|6
a heptagon|7
an octagon|8
""")

_OPPOSITES = _pairs("""
hot|cold
up|down
big|small
left|right
day|night
fast|slow
open|closed
young|old
happy|sad
full|empty
light|dark
wet|dry
high|low
early|late
rich|poor
easy|difficult
strong|weak
inside|outside
true|false
first|last
""")
OPPOSITES = _OPPOSITES + [(right, left) for left, right in _OPPOSITES]

AUTHORS = _pairs("""
Hamlet|William Shakespeare
Macbeth|William Shakespeare
Don Quixote|Miguel de Cervantes
War and Peace|Leo Tolstoy
Anna Karenina|Leo Tolstoy
Pride and Prejudice|Jane Austen
Emma|Jane Austen
Oliver Twist|Charles Dickens
Moby-Dick|Herman Melville
Frankenstein|Mary Shelley
Dracula|Bram Stoker
Faust|Johann Wolfgang von Goethe
The Metamorphosis|Franz Kafka
Crime and Punishment|Fyodor Dostoevsky
Les Misérables|Victor Hugo
Treasure Island|Robert Louis Stevenson
Jane Eyre|Charlotte Brontë
The Odyssey|Homer
The Divine Comedy|Dante Alighieri
Animal Farm|George Orwell
The Hobbit|J. R. R. Tolkien
""")

COLOURS = _pairs("""
the sky|blue
grass|green
snow|white
coal|black
a lemon|yellow
a ripe tomato|red
blood|red
milk|white
a carrot|orange
a sunflower|yellow
chocolate|brown
an emerald|green
a ruby|red
a flamingo|pink
a ripe banana|yellow
""")

ORDINAL_PLANETS = _pairs("""
first|Mercury
second|Venus
third|Earth
fourth|Mars
fifth|Jupiter
sixth|Saturn
seventh|Uranus
eighth|Neptune
""")

# (unit asked for, in what, how many)
UNITS = _pairs("""
seconds|a minute|60
minutes|an hour|60
hours|a day|24
days|a week|7
months|a year|12
years|a century|100
years|a decade|10
metres|a kilometre|1000
grams|a kilogram|1000
centimetres|a metre|100
millimetres|a centimetre|10
inches|a foot|12
feet|a yard|3
items|a dozen|12
kilograms|a tonne|1000
""")

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
          "November", "December"]

YOUNG = _pairs("""
dog|a puppy
cat|a kitten
cow|a calf
horse|a foal
sheep|a lamb
goat|a kid
duck|a duckling
goose|a gosling
frog|a tadpole
bear|a cub
lion|a cub
swan|a cygnet
deer|a fawn
kangaroo|a joey
owl|an owlet
""")

# Facts that stand alone: (noun phrases that mean it, whole questions that mean it, the answer). In each list the
# entries after the bar are held out of training.
SINGLES = [
    ("the largest planet;the biggest planet;the largest planet in the solar system|the biggest planet of them all",
     "which planet is the largest;which planet is the biggest|which planet is bigger than all others",
     "Jupiter is the largest planet in the solar system."),
    ("the smallest planet;the smallest planet in the solar system|the tiniest planet of the solar system",
     "which planet is the smallest;which planet is smaller than all others|which is the smallest planet of all",
     "Mercury is the smallest planet in the solar system."),
    ("the red planet;the planet called the red planet|the planet known as the red planet",
     "which planet is red;which planet is called the red planet|which planet do people call the red planet",
     "Mars is called the red planet."),
    ("the largest ocean;the biggest ocean;the largest ocean on Earth|the biggest ocean of the world",
     "which ocean is the largest;which ocean is the biggest|which is the largest ocean of all",
     "The Pacific Ocean is the largest ocean."),
    ("the highest mountain;the tallest mountain;the highest mountain on Earth|the highest mountain of the world",
     "which mountain is the highest;which mountain is the tallest|which is the highest mountain of all",
     "Mount Everest is the highest mountain on Earth."),
    ("the fastest land animal;the fastest animal on land|the fastest of all land animals",
     "which animal is the fastest on land;which land animal is the fastest|which land animal runs the fastest",
     "The cheetah is the fastest land animal."),
    ("the largest animal;the biggest animal;the largest animal on Earth|the biggest animal of the world",
     "which animal is the largest;which animal is the biggest|which is the largest animal of all",
     "The blue whale is the largest animal on Earth."),
    ("the number of continents;the number of continents on Earth|the total number of continents",
     "how many continents are there;how many continents does the Earth have|how many continents exist on Earth",
     "There are 7 continents."),
    ("the number of planets;the number of planets in the solar system|the total number of planets",
     "how many planets are there;how many planets does the solar system have|how many planets exist in the solar system",
     "There are 8 planets in the solar system."),
    ("the number of letters in the English alphabet;the number of letters in the alphabet|the total number of letters in the alphabet",
     "how many letters are in the alphabet;how many letters does the English alphabet have"
     "|how many letters are there in the English alphabet",
     "There are 26 letters in the English alphabet."),
    ("the freezing point of water;the temperature at which water freezes|water's freezing point",
     "at what temperature does water freeze;when does water freeze|at which temperature does water freeze",
     "Water freezes at 0 degrees Celsius."),
    ("the boiling point of water;the temperature at which water boils|water's boiling point",
     "at what temperature does water boil;when does water boil|at which temperature does water boil",
     "Water boils at 100 degrees Celsius at sea level."),
    ("the chemical formula of water;the formula of water|the chemical formula for water",
     "what is water made of;which elements is water made of|what does water consist of",
     "Water is made of hydrogen and oxygen. Its formula is H2O."),
    ("the thing that bees make;the food that bees make|the sweet food bees make",
     "what do bees make;what do bees produce|which food do bees make",
     "Bees make honey."),
    ("the star closest to the Earth;the nearest star|the star nearest to us",
     "which star is closest to the Earth;which star is the nearest|which star is the nearest to Earth",
     "The Sun is the star closest to the Earth."),
    ("the number of colours in a rainbow;the number of rainbow colours|the total number of colours of the rainbow",
     "how many colours does a rainbow have;how many colours are in a rainbow|how many colours are there in the rainbow",
     "A rainbow is said to have 7 colours."),
    ("the longest bone in the human body;the longest human bone|the longest bone of a human",
     "which bone is the longest;which human bone is the longest|which is the longest bone in the body",
     "The femur is the longest bone in the human body."),
    ("the first person on the Moon;the first man on the Moon|the first human on the Moon",
     "who was the first person on the Moon;who first walked on the Moon|who walked on the Moon first",
     "Neil Armstrong was the first person on the Moon."),
]

ALPHABET = ", ".join("ABCDEFGHIJKLMNOPQRSTUVWXYZ") + "."
STORY = (
    "Once upon a time there was a small candle in a dark harbour. Every night it shone for the ships. "
    "One night the wind blew hard, and all the big lamps went out. The small candle was afraid, but it kept burning. "
    "A ship saw its light and came home safely. In the morning the captain thanked the candle. "
    "\"You are small,\" he said, \"but you were there.\" And the candle was happy."
)
JOKE = "Why did the candle go to school? Because it wanted to be a little brighter."

INTRODUCTION = "I am Wick, a small demo model that comes with chandler. I know capitals, small sums and a few plain facts."
ABILITIES = "You can ask me for the capital of a country, a sum of two numbers, a plain fact or a short story."
GREETING = "Hello! I am Wick, a small demo model. Ask me for a capital, a sum or a plain fact."
OUT_OF_SCOPE = "I am a small demo model, and I do not know that. Ask me for a capital, a sum or a plain fact."
NOTHING_YET = "You have not asked me anything yet."
