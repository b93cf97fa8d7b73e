"""The columns of the views, each once: what a view shares with a table keeps the table's column.

Same rules as `schema.columns`: a name means one thing in all views.
"""

from __future__ import annotations

from honeyguide.schema.columns import Column

__all__ = ["Column"]

# An event and what it came of
WEIGHT = Column("weight", "float64", "Strength of the action as a sign of interest, from `[actions]`; 0 = none.")
IS_SHOWING = Column("is_showing", "bool", "Whether the event says what was shown, not what was done.")
DAY = Column("day", "date", "The UTC day.")
DELAY_S = Column("delay_s", "float64", "From happening to being known.", unit="s")
SHOWING_ID = Column("showing_id", "string", "One slot of one list as shown.", nullable=True)
SHOWN_BY = Column(
    "shown_by",
    "string",
    "How the event was led back to a showing: `request` (same request and item) or `person` (it names no request: the "
    "person's newest showing of the item in the 24 hours before).",
    nullable=True,
)
SECONDS_AFTER = Column("seconds_after", "float64", "From the showing to the event.", unit="s", nullable=True)

# What was shown
SHOWN_AT = Column("shown_at", "timestamp", "When it was shown.", unit="us UTC")
LOGGED_BY = Column(
    "logged_by", "string", "Who told of the showing: `impressions` (the serving log) or `events` (an action of them)."
)
ACTS = Column("acts", "int64", "Events with a weight above 0.", unit="events")
STRENGTH = Column("strength", "float64", "The largest weight among the events that followed; 0 = nothing did.")
FIRST_ACT_S = Column("first_act_s", "float64", "From the showing to the first such event.", unit="s", nullable=True)

# Visits
SESSION = Column("session", "int64", "The person's visits in order, 1 = first.")
STARTED_AT = Column("started_at", "timestamp", "The first sign of life.", unit="us UTC")
ENDED_AT = Column("ended_at", "timestamp", "The last sign of life.", unit="us UTC")
SECONDS = Column("seconds", "float64", "From the first to the last sign of life.", unit="s")
REQUESTS = Column("requests", "int64", "Answered requests.", unit="requests")
SEARCHES = Column("searches", "int64", "Answered searches.", unit="requests")
EVENTS_N = Column(
    "events", "int64", "Events; where they are not parted by action, without those that only say what was shown.",
    unit="events",
)  # fmt: skip
ITEMS_N = Column("items", "int64", "Different items.", unit="items")
HOURS_AWAY = Column("hours_away", "float64", "Since the visit before; null for the first.", unit="h", nullable=True)

# People
PEOPLE_N = Column("people", "int64", "Different people.", unit="people")
DAYS = Column("days", "int64", "Different days with a sign of life.", unit="days")
FIRST_AT = Column("first_at", "timestamp", "The first event or request.", unit="us UTC")
LAST_AT = Column("last_at", "timestamp", "The last event or request.", unit="us UTC")
AT_LEAST = Column("at_least", "int64", "The class' smallest number of events.", unit="events")
AT_MOST = Column("at_most", "int64", "The class' largest number of events; null = no limit.", nullable=True)
PEOPLE_SHARE = Column("people_share", "float64", "Share of all people.", unit="share")
EVENTS_SHARE = Column("events_share", "float64", "Share of all events.", unit="share", nullable=True)

# Retention
GRAIN = Column("grain", "string", "`day` or `week`: people whose first day is the same, or lies in the same week.")
COHORT = Column("cohort", "date", "The first day; of a week, its Monday.")
AFTER_DAYS = Column("after_days", "int64", "1, 7 or 28: so many days after the person's own first day.", unit="days")
WEEK = Column("week", "int64", "Calendar weeks after the cohort's, 0 = its own.", unit="weeks")
RETURNED = Column(
    "returned", "int64", "People with a sign of life then; null where that day is not over.", nullable=True
)
RATE = Column("rate", "float64", "`returned` / `people`; null = not yet known.", unit="share", nullable=True)
KNOWN = Column("known", "bool", "Whether the log reaches past that day for the whole cohort.")

# Funnels and positions
STEP = Column("step", "int64", "0 = shown, then one step for each weight of `[actions]` above 0, rising.")
ACTIONS = Column("actions", "string", "The actions of the step; `shown` for step 0.")
REACHED = Column("reached", "int64", "Showings followed by an action of this step or a stronger one.", unit="showings")
OF_SHOWN = Column("of_shown", "float64", "`reached` of the showings of this surface and position.", unit="share")
OF_BEFORE = Column(
    "of_before", "float64", "`reached` of the step before; null where that is 0.", unit="share", nullable=True
)
SHOWN = Column("shown", "int64", "Showings.", unit="showings")
ACTED = Column("acted", "int64", "Showings that were acted on (an event with a weight above 0).", unit="showings")
CTR = Column("ctr", "float64", "`acted` / `shown`.", unit="share", nullable=True)
CTR_LOW = Column("ctr_low", "float64", "Lower end of the 95 % interval (Wilson).", unit="share", nullable=True)
CTR_HIGH = Column("ctr_high", "float64", "Upper end of the 95 % interval (Wilson).", unit="share", nullable=True)
EMPTY = Column("empty", "int64", "Requests answered with an empty list.", unit="requests")
FELL_BACK = Column("fell_back", "int64", "Requests whose answer is not the policy's own.", unit="requests")
REQUESTS_ACTED = Column("requests_acted", "int64", "Requests of whose list something was acted on.", unit="requests")

# The catalog
FIRST_EVENT_AT = Column("first_event_at", "timestamp", "The item's first event.", unit="us UTC", nullable=True)
LAST_EVENT_AT = Column("last_event_at", "timestamp", "The item's last event.", unit="us UTC", nullable=True)
FIRST_SHOWN_AT = Column("first_shown_at", "timestamp", "When it was first shown.", unit="us UTC", nullable=True)
HOURS_TO_SHOWING = Column(
    "hours_to_showing", "float64", "From being known to being shown; null if never, or shown before.", unit="h",
    nullable=True,
)  # fmt: skip
DAYS_SILENT = Column(
    "days_silent", "int64", "From the last event to the end of the log; null without one.", unit="days", nullable=True
)
MISSING_FACTS = Column(
    "missing_facts", "int64", "How many of title, description, categories, people, country, year, price, language and "
    "picture are not known.", unit="facts",
)  # fmt: skip
MEASURE = Column("measure", "string", "What is measured.")
AMOUNT = Column("amount", "float64", "The measure: a count, a share from 0 to 1, hours.", nullable=True)
MEASURE_UNIT = Column("unit", "string", "`items`, `events`, `share` or `h`.")

# Search
WORDS = Column("words", "string", "What was typed, without case and outer spaces.")
ASKED_AT = Column("asked_at", "timestamp", "When it was asked.", unit="us UTC")
HITS = Column("hits", "int64", "Items on the list as shown.", unit="items")
FIRST_POSITION = Column("first_position", "int64", "The highest slot that was acted on.", unit="slot", nullable=True)
NEXT_QUERY = Column("next_query", "string", "The person's next search within 5 minutes.", nullable=True)
SEARCH_OUTCOME = Column(
    "search_outcome",
    "string",
    "The first that holds: `clicked` (a hit was acted on), `reformulated` (another search within 5 minutes), `again` "
    "(the same within 5 minutes: the next page), `unknown` (nobody's, or less than 5 minutes before the log's end), "
    "`abandoned`.",
)
QUERIES = Column("queries", "int64", "Different queries.", unit="queries")
ZERO = Column("zero", "int64", "Searches without a hit.", unit="requests")
CLICKED = Column("clicked", "int64", "Searches of which a hit was acted on.", unit="requests")
REFORMULATED = Column("reformulated", "int64", "Searches followed by another one.", unit="requests")
ABANDONED = Column("abandoned", "int64", "Searches after which nothing came.", unit="requests")
UNKNOWN = Column("unknown", "int64", "Searches of which it cannot be known.", unit="requests")
ZERO_RATE = Column("zero_rate", "float64", "`zero` / `searches`.", unit="share")
CLICK_RATE = Column("click_rate", "float64", "`clicked` / `searches`.", unit="share")
ABANDON_RATE = Column(
    "abandon_rate", "float64", "`abandoned` / (`searches` - `unknown`).", unit="share", nullable=True
)  # fmt: skip

SEARCH_WEEK = Column("search_week", "date", "The Monday of the week.")
SEARCHES_BEFORE = Column(
    "searches_before", "int64", "Answered searches of the week before.", unit="requests", nullable=True
)
ZERO_BEFORE = Column("zero_rate_before", "float64", "`zero_rate` of the week before.", unit="share", nullable=True)
CLICK_BEFORE = Column("click_rate_before", "float64", "`click_rate` of the week before.", unit="share", nullable=True)
ABANDON_BEFORE = Column(
    "abandon_rate_before", "float64", "`abandon_rate` of the week before.", unit="share", nullable=True
)

# Volumes and delays
WITHIN_MINUTE = Column("within_minute", "int64", "Known at most a minute after they happened.", unit="events")
WITHIN_HOUR = Column("within_hour", "int64", "Known at most an hour after.", unit="events")
WITHIN_DAY = Column("within_day", "int64", "Known at most a day after.", unit="events")
DELAY_MEDIAN_S = Column("delay_median_s", "float64", "Half of the events were known sooner.", unit="s")
DELAY_MAX_S = Column("delay_max_s", "float64", "The longest delay.", unit="s")
