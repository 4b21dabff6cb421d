"""What is said: lists of wordings with {slots}. A wording after `---` is held out: training never draws it.

Everything is written as it is to be read, with numbers as words. A wording without a final mark gets a full stop.
"""


def entries(text: str) -> tuple[list[str], list[str]]:
    """The lines that training draws, and those that it does not."""
    drawn, _, held_out = text.partition("---")
    return [line.strip() for line in drawn.strip().splitlines()], [line.strip() for line in held_out.strip().splitlines()]


def words(text: str) -> list[str]:
    return [part.strip().replace("_", " ") for part in text.split(",")]


SLOTS = {
    "room": words("kitchen, bedroom, living_room, bathroom, hall, office, garden, garage, dining_room, cellar, attic, balcony"),
    "device": words("light, lights, lamp, heating, fan, radio, television, heater, alarm, music, camera, speaker"),
    "opening": words("door, window, curtains, blinds, gate, front_door, back_door, garage_door"),
    "machine": words("oven, dishwasher, washing_machine, vacuum_cleaner, coffee_machine, printer, computer, kettle"),
    "name": words("Anna, Ben, Clara, David, Emma, Frank, Grace, Henry, Julia, Kevin, Laura, Martin, Nina, Oscar, Paula, Peter, Robert, "
                  "Sarah, Thomas, Victor"),
    "relative": words("my mother, my father, my brother, my sister, my wife, my husband, my boss, my neighbour, the doctor, the office, "
                      "the school, the garage, the bank, the restaurant, grandma, grandpa"),
    "city": words("Berlin, Paris, London, Madrid, Rome, Vienna, Oslo, Lisbon, Dublin, Athens, Boston, Chicago, Tokyo, Sydney, Toronto, "
                  "Kampala, Cairo, Moscow, Dallas, Geneva"),
    "music": words("jazz, rock, classical music, piano music, the blues, folk songs, pop music, dance music, something quiet, "
                   "something happy, my favourite song, the next song, the last album, some music, a podcast, an audio book, the news, "
                   "the evening concert"),
    "weather": words("rain, snow, be sunny, be cloudy, be windy, be warm, be cold, freeze, storm, be foggy, be dry, be hot"),
    "sky": words("sunny, cloudy, rainy, windy, warm, cold, foggy, dry, hot, stormy, clear, wet"),
    "item": words("milk, bread, butter, eggs, cheese, apples, bananas, oranges, potatoes, tomatoes, onions, rice, sugar, salt, flour, "
                  "coffee, tea, orange juice, water, soap, paper, batteries, carrots, chicken, fish, pasta, honey, yoghurt"),
    "counted": words("apples, eggs, bananas, oranges, potatoes, bottles of water, boxes of tea, cups of flour, spoons of sugar, tickets, "
                     "chairs, people, pages, letters, books, candles, dogs, cats, birds, children, cars, stamps"),
    "color": words("red, green, blue, yellow, white, orange, purple, pink, black, brown, grey"),
    "errand": words("buy milk, call the doctor, water the plants, feed the cat, walk the dog, pay the rent, clean the kitchen, "
                    "take the bus, check the oven, lock the door, charge the phone, read the letter, send the report, wash the car, "
                    "book a table, pick up the children, take my medicine, close the windows, empty the dishwasher, write to Anna"),
    "meeting": words("the meeting, the appointment, dinner, lunch, breakfast, the party, the concert, the lesson, the game, the match, "
                     "the interview, the film"),
    "vehicle": words("train, bus, plane, ship, taxi, tram, ferry, night train"),
    "day": words("Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday"),
    "month": words("January, February, March, April, May, June, July, August, September, October, November, December"),
    "unit": words("metres, miles, kilometres, litres, grams, kilos, degrees, percent, euros, dollars, pounds, steps, points, pages"),
    "size": words("small, large, big, little, old, new, long, short, heavy, light, fast, slow, cheap, expensive, quiet, loud"),
    "thing": words("house, car, phone, ticket, key, book, table, box, bag, shirt, letter, picture, bottle, bicycle, clock, map, bridge, "
                   "river, street, station, village, candle, ship, lamp"),
    "part": words("in the morning, in the afternoon, in the evening, at night"),
    "when": words("today, tomorrow, tonight, now, this morning, this evening, this afternoon, next week, on the weekend, later, soon, "
                  "tomorrow morning, tomorrow evening"),
    "place": words("at home, in the garden, in the kitchen, at the station, at the office, in the car, by the river, at school, "
                   "in the city, under the bridge, behind the house, on the table, near the window"),
    "please": ["", "", "", "", " please"],
    "polite": ["", "", "", "", "Please ", "Can you ", "Could you "],
    "onoff": ["on", "off"],
    "updown": ["up", "down"],
}

COMMANDS = entries("""
turn {onoff} the {room} {device}{please}
turn {onoff} the {device} in the {room}{please}
turn the {device} {onoff}{please}
switch {onoff} the {room} light{please}
switch the {device} in the {room} {onoff}
turn {updown} the {device}
turn the {device} {updown} {place}
open the {opening}{please}
close the {opening}{please}
open the {room} window
lock the {opening}
start the {machine}{please}
stop the {machine}
start the {machine} at {clock}
is the {machine} still running?
make the {room} light {color}
set the light in the {room} to {color}
dim the lights to {tens} percent
set the volume to {small}
set the heating to {teens} degrees
set the temperature in the {room} to {teens} degrees
set a timer for {duration}{please}
set a timer for {duration} and call it {item}
set an alarm for {clock}
set an alarm for {clock} {part}
wake me up at {clock}{please}
wake me up at {clock} on {day}
cancel the timer
cancel all alarms
cancel the alarm for {clock}
how much time is left on the timer?
remind me to {errand}{please}
remind me to {errand} at {clock}
remind me to {errand} on {day}
remind me to {errand} in {duration}
play {music}{please}
play {music} in the {room}
play {music} {when}
stop the music
skip this song
repeat that song
what song is this?
call {name}{please}
call {relative}
call {name} and {name}
call {relative} {when}
send a message to {name}
write to {name} that I am late
tell {name} that {meeting} is at {clock}
tell {relative} that I am at home
read me my messages
do I have any new messages?
add {item} to the shopping list
add {item} and {item} to my list
put {count} {counted} on the list
take {item} off the list
what is on my shopping list?
buy {item}, {item} and {item}
what is the weather in {city}?
what is the weather like {when}?
what is the weather in {city} {when}?
will it {weather} {when}?
will it {weather} in {city} {when}?
how cold is it in {city}?
what time is it?
what time is it in {city}?
what day is it {when}?
what is the date {when}?
when is {meeting}?
what is on my calendar for {day}?
when does the {vehicle} to {city} leave?
how far is it to {city}?
show me the way to {city}
take me to the {thing}
book a {vehicle} to {city} for {day}
where is my {thing}?
find my {thing}
what is {number} plus {number}?
what is {small} times {small}?
how many {counted} do we have?
how do I say {thing} in another language?
tell me a story
tell me something about {city}
good morning
good night
good evening, {name}
thank you
thank you very much
yes please
no thank you
hello {name}
hello, how are you {when}?
help me with the {machine}
say that again please
louder please
go to the next {thing}
---
put the {device} in the {room} {onoff}
switch all the lights {onoff} {place}
start a timer for {duration}
read me the news {when}
ask {name} when {meeting} is
when is the next {vehicle} to {city}?
is it {sky} in {city} {when}?
do we still have {item} {place}?
""")

STATEMENTS = entries("""
the {vehicle} to {city} leaves at {clock}
the {vehicle} from {city} is {duration} late
{meeting} is on {date}
{meeting} is at {clock} on {day}
{name} comes home at {clock}
{name} was born on {date}
{name} and {name} live in {city}
{name} is at home {when}
today is {day}, {date}
tomorrow is {day}
it is {clock}
it is {clock} {part}
it is {sky} in {city} {when}
it is {sky} and {sky}
it will be {sky} {when}
it will {weather} {when}
the {thing} is {color}
the {thing} is {size} and {color}
the {size} {thing} is {place}
my {thing} is {place}
a {size} {thing} and a {color} {thing}
I see {count} {counted} {place}
we have {count} {counted}
there are {count} {counted} {place}
I need {count} {counted} and some {item}
I have {count} {counted} for {name}
the {thing} costs {number} {unit}
it is {number} {unit} to {city}
that makes {number} {unit}
the price is {number} euros
the answer is {number}
{small} plus {small} is {teens}
{number} and {number}
number {number}
room {number}
page {number}
chapter {small}
the number is {digits}
my number is {digits}
the code is {digits}
{digits}
{digits}
{number}
{year}
{date}
{date}, {year}
{day}, {date}
{clock}
{clock} {part}
from {clock} to {clock}
on {day} at {clock}
in the year {year}
{name} wrote the letter in {year}
the {thing} was made in {year}
the {room} is too {sky}
the {device} in the {room} is {onoff}
{name} likes {item} and {item}
{item}, {item} and {item}
we drink {item} {place}
{name} plays {music} {when}
I am going to {city} on {day}
we are going to {city} by {vehicle}
they came back from {city} at {clock}
she wants to {errand}
he has to {errand} {when}
{relative} will call at {clock}
{relative} is waiting {place}
the children play {place}
a candle burns {place}
---
the {size} {thing} belongs to {name}
we have no {item} {place}
{name} bought {count} {counted} on {day}
at {clock} the {vehicle} was in {city}
the {color} {thing} is from {year}
""")
