"""Which of a file's columns is which of ours, by name, and by content where a file has no header."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from honeyguide.intake.values import numbers
from honeyguide.schema import columns as c
from honeyguide.schema.columns import Column
from honeyguide.schema.tables import EVENTS, ITEMS, USERS, Table

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["PRICE_NAMES", "RATING_NAMES", "by_content", "by_name", "squeezed"]


def _words(text: str) -> list[str]:
    return text.split()


RATING_NAMES = _words(
    "rating ratings score stars star starrating grade overall rate userrating ratingvalue preference reviewscore"
)
PRICE_NAMES = _words("amount price revenue total sum spend")
_COUNT_NAMES = _words("quantity qty count plays playcount duration dwell watchtime")

_USER = _words(
    "userid user uid customerid customer custid visitorid visitor memberid member accountid account clientid client "
    "personid person profileid shopperid buyerid subscriberid reviewerid playerid listenerid readerid viewerid "
    "anonymousid cookieid deviceid useridx userindex userno usr u"
)
_ITEM = _words(
    "itemid item productid product sku movieid movie filmid film articleid article contentid content trackid track "
    "songid song artistid artist bookid book isbn asin parentasin videoid video showid programid listingid listing "
    "offerid adid adgroupid postid newsid gameid businessid poiid locationid venueid placeid recipeid courseid jobid "
    "hotelid restaurantid objectid itemidx itemindex itemno iid gtin ean i"
)
_TIME = _words(
    "happenedat timestamp ts time eventtime eventtimestamp eventts datetime eventdatetime date eventdate createdat "
    "created occurredat occurred loggedat servertime servertimestamp clienttime clicktime purchasetime orderdate "
    "ordertime visittime when unixtime unixtimestamp unixreviewtime epoch timestampms timestampus timems timeus timens "
    "t"
)

_EVENT_NAMES: dict[Column, list[str]] = {
    c.USER_ID: _USER,
    c.ITEM_ID: _ITEM,
    c.HAPPENED_AT: _TIME,
    c.ACTION: _words(
        "action actiontype event eventtype eventname interaction interactiontype behavior behaviortype behaviour "
        "behaviourtype activity activitytype verb feedback feedbacktype signal type"
    ),
    c.VALUE: ["value", *RATING_NAMES, *PRICE_NAMES, *_COUNT_NAMES],
    c.EVENT_ID: _words("eventid eventuuid interactionid actionid messageid insertid uuid"),
    c.KNOWN_AT: _words("knownat receivedat ingestedat ingesttime processedat loadtime"),
    c.SURFACE: _words("surface page pagetype placement screen widget channel"),
    c.REQUEST_ID: _words("requestid reqid impressionid queryid searchid slateid recommendationid servingid"),
    c.SESSION_ID: _words("sessionid session visitid usersession sid"),
    c.EXPERIMENT: _words("experiment experimentid experimentarm variant abgroup arm"),
    c.POSITION: _words("position pos slot rank displayposition listposition"),
    c.PROPENSITY: _words("propensity propensityscore pscore actionprob probability"),
    c.QUERY: _words("query querytext searchquery searchterm searchphrase keywords q"),
    c.CONTEXT: ["context"],
    c.CORRECTS: ["corrects"],
}
_ITEM_NAMES: dict[Column, list[str]] = {
    c.ITEM_ID: [*_ITEM, "id", "code", "handle"],
    c.TITLE: _words(
        "title name itemtitle itemname producttitle productname movietitle filmtitle booktitle trackname songtitle "
        "headline label displayname"
    ),
    c.DESCRIPTION: _words("description desc summary overview plot abstract body text content details longdescription"),
    c.CATEGORIES: _words(
        "categories category genres genre tags tag topics topic class classes categoryid categorycode categorypath "
        "productcategory producttype department section subject subjects"
    ),
    c.PEOPLE: _words("people authors author director directors cast actors artists artist brand creator writer"),
    c.COUNTRY: _words("country countries origin countryoforigin"),
    c.YEAR: _words("year releaseyear publicationyear yearofpublication publishedyear modelyear productionyear"),
    c.PRICE: _words("price listprice unitprice saleprice currentprice cost amount"),
    c.LANGUAGE: _words("language lang languagecode originallanguage locale"),
    c.IMAGE_URL: _words("imageurl image img imgurl imagelink picture pictureurl thumbnail poster posterurl"),
    c.ATTRIBUTES: ["attributes"],
    c.AVAILABLE: _words("available isavailable instock availability active isactive enabled"),
    c.KNOWN_AT: _words(
        "knownat createdat created addedat added availablefrom publishedat published publishtime publishdate "
        "releasedate launchdate firstseen timestamp"
    ),
}
_USER_NAMES: dict[Column, list[str]] = {
    c.USER_ID: [*_USER, "id"],
    c.ATTRIBUTES: ["attributes"],
    c.KNOWN_AT: _words("knownat createdat created registeredat signupat signupdate joinedat timestamp"),
}
_NAMES = {EVENTS.name: _EVENT_NAMES, ITEMS.name: _ITEM_NAMES, USERS.name: _USER_NAMES}


def squeezed(name: str) -> str:
    """A name without case, spaces, dots, dashes, underscores, and a unit in parentheses at its end."""
    bare = re.sub(r"(?<=\S)\s*[(\[][^)\]]*[)\]]\s*$", "", name)
    return re.sub(r"[^0-9a-z]", "", bare.casefold())


def by_name(table: Table, names: list[str]) -> dict[Column, str]:
    """Our column -> the file's, by synonyms; the earlier synonym wins, no column serves twice."""
    free: dict[str, str] = {}
    for name in names:
        free.setdefault(squeezed(name), name)
    mapping: dict[Column, str] = {}
    for column, synonyms in _NAMES[table.name].items():
        for synonym in (squeezed(column), *synonyms):
            if synonym in free:
                mapping[column] = free.pop(synonym)
                break
    return mapping


def by_content(raw: pa.Table) -> dict[Column, str]:
    """Columns of an event file without a header: the time by its size, the rating by its few small values, then
    person and item in this order. Empty unless exactly that can be told."""
    mapping: dict[Column, str] = {}
    others: list[str] = []
    for name in raw.column_names:
        cells = raw[name].cast("string")
        read = numbers(cells)
        filled = read.values[np.isfinite(read.values)]
        looks_iso = sum(1 for cell in cells[:100].to_pylist() if cell and re.match(r"\d{4}-\d{2}-\d{2}", cell)) > 50
        enough = len(filled) > 0.9 * len(read.values) and len(filled) > 0
        if c.HAPPENED_AT not in mapping and (looks_iso or (enough and float(np.median(filled)) > 3e8)):
            mapping[c.HAPPENED_AT] = name
        elif c.VALUE not in mapping and len(others) >= 2 and enough and filled.min() >= 0 and filled.max() <= 10:
            mapping[c.VALUE] = name
        else:
            others.append(name)
    if c.HAPPENED_AT not in mapping or len(others) < 2:
        return {}
    return {c.USER_ID: others[0], c.ITEM_ID: others[1], **mapping}
