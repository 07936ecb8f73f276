"""The bank of examples: what a prompt shows instead of placeholders.

A small model copies the form of its one example, and often the example.  So the bank has many
domains, none of which is in `generator.DOMAINS`, and each spec draws one from its own seed: the
domain, the request and the order of the menu.  The example has the context, the menu size and the
number of calls that the spec asks for.  More than half of the tools have optional arguments, and
most requests leave some of them out.

One raw entry.  A question mark after a name marks an optional argument, bars separate the values
of an enumeration, `|` between two turns ends a line of a dialogue:

    find_book(title: string, branch: string, large_print?: boolean) Look for a book in a branch.
    Q: Does the Harbour branch have The Little Prince?
    A: find_book(title="The Little Prince", branch="Harbour")
"""

import ast
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ast_match import Call, Tool

BANK = {
    "library": """
find_book(title: string, branch: string, large_print?: boolean) Look for a book in a branch.
renew_loan(card_number: string, days: integer) Keep a borrowed book longer.
reserve_room(room: string, people: integer, projector?: boolean) Reserve a reading room.
list_new_books(genre: crime|history|poetry, limit?: integer) List books that arrived this week.
pay_fine(card_number: string, amount: number) Pay an overdue fine.
suggest_purchase(title: string, reason?: string) Ask the library to buy a book.
opening_hours(branch: string) Say when a branch is open.
print_pages(pages: integer, colour?: boolean, two_sided?: boolean, copies?: integer) Print pages.
Q: Does the Harbour branch have The Little Prince on its shelves?
A: find_book(title="The Little Prince", branch="Harbour")
Q: Renew everything on card LX-204 for another 14 days, please.
A: renew_loan(card_number="LX-204", days=14)
Q: I have 12 pages to print, and they have to be in colour.
A: print_pages(pages=12, colour=True)
Q: Show me the new poetry, then ask for Moon Tides to be bought.
A: list_new_books(genre="poetry")
A: suggest_purchase(title="Moon Tides")
Q: Pay the fine of 3.50 on card LX-881 and tell me when the Old Mill branch opens.
A: pay_fine(card_number="LX-881", amount=3.5)
A: opening_hours(branch="Old Mill")
Q: User: I need a reading room. | Assistant: Which one, and for how many? | User: Elm, 6 people.
A: reserve_room(room="Elm", people=6)
Q: User: What came in this week? | Assistant: Which genre? | User: Crime, 5 titles are enough.
A: list_new_books(genre="crime", limit=5)
""",
    "gardening": """
water_bed(bed: string, litres: number) Water a flower bed.
order_seeds(plant: string, packets: integer, organic?: boolean) Order seeds by the packet.
plan_sowing(plant: string, month: string, indoors?: boolean) Put a sowing on the plan.
identify_pest(symptom: string, plant?: string) Name the pest behind a symptom.
set_sprinkler(zone: integer, minutes: integer) Run a sprinkler zone.
soil_report(bed: string) Show the soil values of a bed.
prune_reminder(plant: string, season: spring|summer|autumn, note?: string) Remember to prune.
mow_lawn(height: integer, edges?: boolean, mulch?: boolean) Send the robot to mow.
Q: My roses have sticky leaves. Which pest does that?
A: identify_pest(symptom="sticky leaves", plant="roses")
Q: Give the herb bed 7.5 litres.
A: water_bed(bed="herb", litres=7.5)
Q: The lawn looks wild again, 4 centimetres would be a good height.
A: mow_lawn(height=4)
Q: Order 3 packets of organic kale and run zone 2 for 15 minutes.
A: order_seeds(plant="kale", packets=3, organic=True)
A: set_sprinkler(zone=2, minutes=15)
Q: What does the soil of the north bed look like? And remind me to prune the plum in autumn.
A: soil_report(bed="north")
A: prune_reminder(plant="plum", season="autumn")
Q: User: I want to sow leeks. | Assistant: In which month? | User: February, and indoors.
A: plan_sowing(plant="leeks", month="February", indoors=True)
Q: User: I need seeds. | Assistant: Of which plant, how many packets? | User: Chard, 2 packets.
A: order_seeds(plant="chard", packets=2)
""",
    "zoo": """
feed_animal(animal: string, food: string, kilos?: number) Put a feeding on the list.
book_tour(date: string, visitors: integer, language?: string) Book a guided tour.
enclosure_camera(enclosure: string) Open the camera of an enclosure.
record_weight(animal: string, kilos: number) Record the weight of an animal.
call_vet(animal: string, urgency: low|high, symptom?: string) Call the veterinarian.
adopt_animal(animal: string, donor: string, months?: integer) Adopt an animal.
ticket_price(age: integer, weekend?: boolean) Say what a ticket costs.
lock_gate(gate: integer) Lock a gate.
Q: How much is a ticket for someone aged 67?
A: ticket_price(age=67)
Q: Call the vet for Bruno the bear. The urgency is high, he has a swollen paw.
A: call_vet(animal="Bruno", urgency="high", symptom="swollen paw")
Q: Someone left gate 9 open, it has to be locked.
A: lock_gate(gate=9)
Q: Write down that Kiko weighs 41.2 kilos, and feed Kiko bamboo.
A: record_weight(animal="Kiko", kilos=41.2)
A: feed_animal(animal="Kiko", food="bamboo")
Q: Open the penguin camera and put the otter up for adoption by Rosa Lind.
A: enclosure_camera(enclosure="penguin")
A: adopt_animal(animal="otter", donor="Rosa Lind")
Q: User: A guided tour, please. | Assistant: When, for how many? | User: On 3 May, 18 visitors.
A: book_tour(date="3 May", visitors=18)
Q: User: Feed Tara. | Assistant: With what? | User: Hay, 20 kilos.
A: feed_animal(animal="Tara", food="hay", kilos=20)
""",
    "museum": """
find_exhibit(name: string) Say in which hall an exhibit stands.
audio_guide(language: string, device?: string) Lend an audio guide.
loan_painting(title: string, partner: string, weeks: integer) Lend a painting to a partner.
group_visit(school: string, pupils: integer, guide?: boolean) Register a group.
climate_log(hall: integer, humidity?: boolean) Show the climate values of a hall.
restore_object(object: string, damage: crack|stain|tear, budget?: number) Order a restoration.
shop_order(item: string, quantity: integer, gift_wrap?: boolean) Order from the shop.
close_hall(hall: integer, reason: string) Close a hall to visitors.
Q: In which hall will I find the Amber Crown?
A: find_exhibit(name="Amber Crown")
Q: Lend Winter Harbour to the Kestrel Gallery for 8 weeks.
A: loan_painting(title="Winter Harbour", partner="Kestrel Gallery", weeks=8)
Q: The blue vase got a crack during the move and needs a restoration.
A: restore_object(object="blue vase", damage="crack")
Q: Close hall 5 because of a water leak, and show me the climate of hall 6.
A: close_hall(hall=5, reason="water leak")
A: climate_log(hall=6)
Q: I would like an audio guide in Finnish and 2 posters from the shop as a gift.
A: audio_guide(language="Finnish")
A: shop_order(item="posters", quantity=2, gift_wrap=True)
Q: User: Our class wants to visit. | Assistant: School and number? | User: Birch School, 24 pupils.
A: group_visit(school="Birch School", pupils=24)
Q: User: I want to buy something. | Assistant: What, and how many? | User: The catalogue, 1 copy.
A: shop_order(item="catalogue", quantity=1)
""",
    "bakery": """
order_bread(kind: string, loaves: integer, sliced?: boolean) Order bread.
bake_cake(flavour: string, tiers: integer, text?: string) Order a cake.
oven_program(degrees: integer, minutes: integer) Start an oven.
check_flour(kind: rye|wheat|spelt) Say how much flour is left.
allergen_list(product: string) List the allergens of a product.
mark_sold_out(product: string, until?: string) Mark a product as sold out.
tip_jar(amount: number) Put a tip into the jar.
deliver_order(order_number: string, street: string, phone?: string, note?: string) Deliver an order.
Q: Is there anything in the almond tart that people are allergic to?
A: allergen_list(product="almond tart")
Q: Set the oven to 220 degrees for 35 minutes.
A: oven_program(degrees=220, minutes=35)
Q: I could do with 2 loaves of sourdough.
A: order_bread(kind="sourdough", loaves=2)
Q: How much spelt is left? And the cinnamon rolls are sold out.
A: check_flour(kind="spelt")
A: mark_sold_out(product="cinnamon rolls")
Q: Bring order B-77 to Quay Street, and put 4.20 into the tip jar.
A: deliver_order(order_number="B-77", street="Quay Street")
A: tip_jar(amount=4.2)
Q: User: I need bread. | Assistant: Which kind, how many loaves? | User: Rye, 3 loaves, sliced.
A: order_bread(kind="rye", loaves=3, sliced=True)
Q: User: No more pretzels today. | Assistant: Until when? | User: Until 7 o'clock tomorrow.
A: mark_sold_out(product="pretzels", until="7 o'clock tomorrow")
""",
    "orchestra": """
schedule_rehearsal(piece: string, day: string, hall?: string) Put a rehearsal on the plan.
rent_instrument(instrument: string, weeks: integer, insurance?: boolean) Rent an instrument.
seat_map(section: strings|brass|woodwind) Show who sits where.
tune_piano(pitch: number) Order a tuning at a pitch.
print_scores(composer: string, copies: integer, paper?: string) Print scores.
excuse_player(player: string, reason?: string) Excuse a player.
set_tempo(piece: string, beats: integer) Note the tempo of a piece.
audition_list(section: string) List the auditions of a section.
Q: Who sits where among the brass?
A: seat_map(section="brass")
Q: Have the piano tuned to 442.5 hertz.
A: tune_piano(pitch=442.5)
Q: Mirela cannot come tonight, so please excuse her.
A: excuse_player(player="Mirela")
Q: Rehearse Spring Suite on Tuesday and print 30 copies of Holm.
A: schedule_rehearsal(piece="Spring Suite", day="Tuesday")
A: print_scores(composer="Holm", copies=30)
Q: Note 96 beats for Night March, then list the auditions of the cellos.
A: set_tempo(piece="Night March", beats=96)
A: audition_list(section="cellos")
Q: User: I need an oboe. | Assistant: For how many weeks? | User: 10 weeks, with insurance.
A: rent_instrument(instrument="oboe", weeks=10, insurance=True)
Q: User: Plan a rehearsal of Dawn. | Assistant: When and where? | User: Friday in the Red Hall.
A: schedule_rehearsal(piece="Dawn", day="Friday", hall="Red Hall")
""",
    "observatory": """
point_telescope(target: string, exposure?: number) Point the telescope at a target.
sky_forecast(night: string) Say how clear a night will be.
log_sighting(object: string, magnitude: number, observer?: string) Log a sighting.
open_dome(degrees: integer, slow?: boolean) Open the dome.
reserve_night(observer: string, night: string, instrument?: string) Reserve observing time.
list_targets(kind: comet|galaxy|nebula, limit?: integer) List targets that are up now.
calibrate_camera(temperature: integer) Calibrate the camera.
moon_phase(night: string) Say the phase of the moon.
Q: Will the sky be clear on 12 November?
A: sky_forecast(night="12 November")
Q: Point the telescope at Vega.
A: point_telescope(target="Vega")
Q: I saw Algol tonight, it had a magnitude of 2.1.
A: log_sighting(object="Algol", magnitude=2.1)
Q: Which comet is up now, and how does the moon look on 9 March?
A: list_targets(kind="comet")
A: moon_phase(night="9 March")
Q: Open the dome by 45 degrees, slowly, and calibrate the camera to -20.
A: open_dome(degrees=45, slow=True)
A: calibrate_camera(temperature=-20)
Q: User: I need a night at the telescope. | Assistant: Your name, and when? | User: Idris, 6 June.
A: reserve_night(observer="Idris", night="6 June")
Q: User: Show me some galaxies. | Assistant: How many? | User: Make it 8 of the kind galaxy.
A: list_targets(kind="galaxy", limit=8)
""",
    "campsite": """
book_pitch(guest: string, nights: integer, power?: boolean) Book a pitch.
rent_canoe(hours: integer, paddles?: integer) Rent a canoe.
report_noise(pitch: string) Report noise at a pitch.
buy_firewood(bundles: integer, delivered?: boolean) Buy firewood.
shower_token(tokens: integer) Buy shower tokens.
trail_status(trail: string, season?: string) Say if a trail is open.
check_out(pitch: string, hour: integer, feedback?: string) Check out.
hire_tent(size: small|medium|large, days: integer) Hire a tent.
Q: Is the Ridge Loop open at the moment?
A: trail_status(trail="Ridge Loop")
Q: Book a pitch for Oda Berg, 4 nights.
A: book_pitch(guest="Oda Berg", nights=4)
Q: The people at C17 have been loud since midnight.
A: report_noise(pitch="C17")
Q: I want 3 bundles of firewood and 6 shower tokens.
A: buy_firewood(bundles=3)
A: shower_token(tokens=6)
Q: Check out of B4 at 10, and get me a canoe for 2 hours tomorrow.
A: check_out(pitch="B4", hour=10)
A: rent_canoe(hours=2)
Q: User: Do you have tents? | Assistant: Which size, for how long? | User: A large one for 5 days.
A: hire_tent(size="large", days=5)
Q: User: A canoe, please. | Assistant: For how long? | User: 3 hours, with 4 paddles.
A: rent_canoe(hours=3, paddles=4)
""",
    "laundry": """
start_wash(program: cotton|wool|quick, degrees: integer, prewash?: boolean) Start a machine.
reserve_machine(machine: integer, hour: string) Reserve a machine.
remove_stain(stain: string, fabric: string) Say how to remove a stain.
iron_shirts(shirts: integer, starch?: boolean) Have shirts ironed.
lost_sock(colour: string, size?: string) Report a lost sock.
dry_clean(item: string, express?: boolean, note?: string) Have something dry-cleaned.
load_card(card: string, amount: number) Load money onto a card.
machine_status(machine: integer) Say how long a machine still runs.
Q: How long does machine 6 still run?
A: machine_status(machine=6)
Q: Wash wool at 30 degrees.
A: start_wash(program="wool", degrees=30)
Q: I must have dropped a striped sock somewhere.
A: lost_sock(colour="striped")
Q: How do I get red wine out of linen? Also put 12.50 on card W-9.
A: remove_stain(stain="red wine", fabric="linen")
A: load_card(card="W-9", amount=12.5)
Q: Dry-clean my velvet coat, express please, and iron 5 shirts.
A: dry_clean(item="velvet coat", express=True)
A: iron_shirts(shirts=5)
Q: User: I want to reserve a machine. | Assistant: Which one, and when? | User: 3, at 18:30.
A: reserve_machine(machine=3, hour="18:30")
Q: User: Clean my suit. | Assistant: Anything to note? | User: The note is: ink on the sleeve.
A: dry_clean(item="suit", note="ink on the sleeve")
""",
    "chess_club": """
pair_players(white: string, black: string, board?: integer) Set up a game.
record_result(winner: string, moves: integer) Record a result.
analyse_opening(opening: string, depth?: integer) Analyse an opening.
join_tournament(player: string, section: open|junior|senior) Join a tournament.
set_clock(minutes: integer, increment?: integer) Set the clocks.
rating_of(player: string) Look up a rating.
book_lesson(coach: string, day: string, online?: boolean) Book a lesson.
pay_dues(member: string, amount: number, year?: integer) Pay the dues.
Q: What is the rating of Samir Holt?
A: rating_of(player="Samir Holt")
Q: Let Nina play white against Otto on board 4.
A: pair_players(white="Nina", black="Otto", board=4)
Q: I never understood the Vienna Game and would like to see it analysed.
A: analyse_opening(opening="Vienna Game")
Q: Write down that Ines won after 61 moves, and set the clocks to 15 minutes.
A: record_result(winner="Ines", moves=61)
A: set_clock(minutes=15)
Q: Pay 24.90 for Luca and sign Luca up for the junior section.
A: pay_dues(member="Luca", amount=24.9)
A: join_tournament(player="Luca", section="junior")
Q: User: I would like a lesson. | Assistant: With whom, and when? | User: Coach Adeyemi, on Sunday.
A: book_lesson(coach="Adeyemi", day="Sunday")
Q: User: Set the clocks. | Assistant: How? | User: 5 minutes, increment 3.
A: set_clock(minutes=5, increment=3)
""",
    "ferry": """
next_departure(port: string, day?: string) Say when the next ferry leaves.
buy_passage(route: string, adults: integer, children?: integer, bicycle?: boolean) Buy tickets.
vehicle_fee(vehicle: car|van|caravan, metres: number) Say what a vehicle costs.
cancel_passage(booking: string) Cancel a booking.
reserve_cabin(booking: string, berths: integer, window?: boolean) Reserve a cabin.
report_lost_item(item: string, deck: integer) Report a lost item.
sea_state(strait: string) Say how high the waves are.
order_meal(meal: string, seat: string, drink?: string) Order a meal to a seat.
Q: When does the next boat leave from Lomvik?
A: next_departure(port="Lomvik")
Q: Cancel booking FR-3381.
A: cancel_passage(booking="FR-3381")
Q: We would bring a caravan of 6.5 metres, what would that cost?
A: vehicle_fee(vehicle="caravan", metres=6.5)
Q: How rough is the Selk Strait, and could you bring fish soup to seat 14C?
A: sea_state(strait="Selk Strait")
A: order_meal(meal="fish soup", seat="14C")
Q: I left my umbrella on deck 7. And book me a cabin with 2 berths for FR-902.
A: report_lost_item(item="umbrella", deck=7)
A: reserve_cabin(booking="FR-902", berths=2)
Q: User: Tickets, please. | Assistant: Which route, how many? | User: Brae to Skerry, 2 adults.
A: buy_passage(route="Brae to Skerry", adults=2)
Q: User: When do boats leave Tarn? | Assistant: On which day? | User: On Thursday.
A: next_departure(port="Tarn", day="Thursday")
""",
    "pottery": """
fire_kiln(degrees: integer, hours: integer, cooling?: string) Fire the kiln.
mix_glaze(colour: string, grams: number, matte?: boolean) Mix a glaze.
book_wheel(potter: string, hours: integer) Book a wheel.
order_clay(kind: stoneware|porcelain|terracotta, kilos: integer, grog?: boolean) Order clay.
price_piece(piece: string, amount: number, discount?: integer) Price a piece.
shelf_of(piece: string) Say on which shelf a piece dries.
join_course(course: string, name: string, evening?: boolean) Join a course.
break_report(piece: string, cause?: string) Report a broken piece.
Q: On which shelf is the tall jug drying?
A: shelf_of(piece="tall jug")
Q: Fire the kiln at 1,240 degrees for 9 hours.
A: fire_kiln(degrees=1240, hours=9)
Q: The green bowl broke in the night, no idea why.
A: break_report(piece="green bowl")
Q: Mix 250 grams of cobalt, matte, and order 10 kilos of porcelain.
A: mix_glaze(colour="cobalt", grams=250, matte=True)
A: order_clay(kind="porcelain", kilos=10)
Q: Price the tea set at 85.50, then book Wanda a wheel for 3 hours.
A: price_piece(piece="tea set", amount=85.5)
A: book_wheel(potter="Wanda", hours=3)
Q: User: I want to join a course. | Assistant: Which, and who are you? | User: Raku, I am Pavel.
A: join_course(course="Raku", name="Pavel")
Q: User: We need more clay. | Assistant: Which kind, how much? | User: Stoneware, 25 kilos.
A: order_clay(kind="stoneware", kilos=25)
""",
}

_TOOL = re.compile(r"(\w+)\((.*?)\) (.+)")  # name, arguments, description


@dataclass(frozen=True)
class Request:
    """A request of the bank and the calls that answer it."""

    question: str
    calls: tuple[Call, ...]

    @property
    def context(self) -> str:
        """Return "multi_turn" for a dialogue, else "single_turn"."""
        return "multi_turn" if self.question.startswith("User: ") else "single_turn"


@dataclass(frozen=True)
class Example:
    """A whole task of the bank, sized as a spec asks."""

    domain: str
    context: str
    question: str
    tools: list[Tool]
    calls: list[Call]


def draw(
    seed: int,
    menu_size: int,
    calls: int,
    context: str = "single_turn",
    leaves_out: bool = False,
) -> Example:
    """Draw an example of this size; the seed decides domain, request and order of the menu.

    With `leaves_out` the calls leave out at least one optional argument.
    """
    rng = random.Random(f"example/{seed}")
    domain = rng.choice(list(BANK))
    tools, requests = read_domain(domain)
    fitting = [r for r in requests if r.context == context and len(r.calls) == calls]
    if leaves_out:
        fitting = [r for r in fitting if leaves_optional_out(r.calls, tools)]
    request = rng.choice(fitting)
    needed = [call.name for call in request.calls]
    others = [tool for tool in tools if tool.name not in needed]
    menu = [tool for tool in tools if tool.name in needed]
    menu += rng.sample(others, menu_size - len(menu))
    rng.shuffle(menu)
    return Example(domain, context, request.question, menu, list(request.calls))


def leaves_optional_out(calls: Sequence[Call], menu: list[Tool]) -> bool:
    """Whether a call leaves out an optional argument of its tool."""
    given = {call.name: call.arguments.keys() for call in calls}
    return any(tool.parameters.keys() - given[tool.name] for tool in menu if tool.name in given)


@lru_cache
def read_domain(domain: str) -> tuple[list[Tool], list[Request]]:
    """Read the tools and the requests of one domain of the bank."""
    tools = []
    requests = []
    question = ""
    for line in BANK[domain].strip().splitlines():
        if line.startswith("Q: "):
            question = line.removeprefix("Q: ").replace(" | ", "\n")
            requests.append(Request(question, ()))
        elif line.startswith("A: "):
            call = _read_call(line.removeprefix("A: "))
            requests[-1] = Request(question, (*requests[-1].calls, call))
        else:
            tools.append(_read_tool(line))
    return tools, requests


def _read_tool(line: str) -> Tool:
    name, arguments, description = _TOOL.fullmatch(line).groups()
    parameters = {}
    required = []
    for argument in arguments.split(", "):
        key, kind = argument.split(": ")
        parameters[key.rstrip("?")] = _schema(kind)
        if not key.endswith("?"):
            required.append(key)
    return Tool(name, description, parameters, tuple(required))


def _schema(kind: str) -> dict:
    if "|" in kind:
        return {"type": "string", "enum": kind.split("|")}
    return {"type": kind}


def _read_call(text: str) -> Call:
    call = ast.parse(text, mode="eval").body
    arguments = {k.arg: ast.literal_eval(k.value) for k in call.keywords}
    return Call(call.func.id, arguments)
