"""Does the console do what it shows? Drives it in headless Chromium, by chromedriver.

    python3 .ci/console.py http://127.0.0.1:7333 SCREENSHOTS

The server must be empty. Needs Selenium, Chromium and chromedriver; nothing is downloaded. Leaves screenshots in both themes
and at phone width in the folder, for people to look at.
"""

import contextlib
import json
import pathlib
import shutil
import sys
import tempfile
import urllib.error
import urllib.request

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

SECONDS = 20
NAUGHTY = "<script>window.broken = 1</script><img src=x onerror=\"window.broken = 1\"> \u202eright to left\u202c \U0001f9ed"
NOTES = """# Notes on sailing

A keel keeps a boat from drifting sideways, and its weight rights the boat.

## Wind

Close to the wind, a sail works like a wing: the air that flows around it pulls the boat forward.
"""
TOPICS = {
    "ships": ["The harbour lights guide ships at night.", "A keel rights the boat.", "Sails are trimmed to the wind.",
              "An anchor holds the ship in the bay.", "The tide lifts every boat in the harbour."],
    "bread": ["Bread dough rises with yeast.", "Bake the loaf in a hot oven.", "Sourdough needs a starter of flour and water.",
              "Knead the dough until it is smooth.", "A crust forms in the steam of the oven."],
    "stars": ["A star shines by fusing hydrogen.", "The telescope shows distant galaxies.", "Planets orbit their star.",
              "A comet's tail points away from the sun.", "Black holes bend the light of stars."],
}


def files(folder):
    """A Markdown file, JSON Lines with strings that are naughty, a table, and one that the page does not take."""
    (folder / "sailing.md").write_text(NOTES, encoding="utf-8")
    rows = [{"id": f"{topic}-{at}", "title": f"On {topic}, {at}", "text": text, "metadata": {"topic": topic, "number": at}}
            for topic, texts in TOPICS.items() for at, text in enumerate(texts)]
    rows.append({"id": "naughty/\u00e4 ?#", "title": NAUGHTY, "text": f"Naughty: {NAUGHTY} and the end.", "metadata": {"topic": NAUGHTY}})
    (folder / "topics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    table = 'id,text,year\nlighthouse,"A lighthouse, they say, is ""a lamp"" on a rock.",1848\nfoghorn,A foghorn warns ships.,1899\n'
    (folder / "table.csv").write_text(table, encoding="utf-8")
    (folder / "picture.xyz").write_bytes(b"\x00\x01")
    return [str(folder / name) for name in ("sailing.md", "topics.jsonl", "table.csv", "picture.xyz")]


class Console:
    """The page in a browser."""

    def __init__(self, address, screenshots):
        options = webdriver.ChromeOptions()
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,900"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        # By their paths, or Selenium would look on the network for newer ones.
        options.binary_location = shutil.which("chromium")
        service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
        self.driver = webdriver.Chrome(options=options, service=service)
        self.screenshots = screenshots
        self.address = address

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector):
        return self.find(selector).text

    def wait(self, what, condition):
        try:
            return WebDriverWait(self.driver, SECONDS, poll_frequency=0.05).until(lambda _: condition())
        except Exception as error:
            self.shot("failed")
            raise AssertionError(f"{what}: not within {SECONDS} s; the page says: {self.text('body')[:1500]}") from error

    def expect(self, what, holds):
        if not holds:
            self.shot("failed")
            raise AssertionError(f"{what}; the page says: {self.text('body')[:1500]}")

    def shot(self, name):
        self.driver.save_screenshot(str(self.screenshots / f"{name}.png"))

    def shots(self, name):
        """In both themes, and as on a phone."""
        for theme in ("light", "dark"):
            emulated = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
            self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", emulated)
            self.wait(f"the {theme} theme", lambda: self.driver.execute_script("return document.documentElement.dataset.theme") == theme)
            self.shot(f"{name}-{theme}")
        phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        self.driver.execute_script("document.querySelector('#main').scrollIntoView()")
        self.shot(f"{name}-phone")
        width = self.driver.execute_script("return document.documentElement.scrollWidth")
        self.expect(f"{name} is {width} pixels wide on a phone of 360", width <= 360)
        self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "light"}]})

    def focused(self):
        return self.driver.switch_to.active_element

    def search(self, words):
        self.find("#query").clear()
        self.find("#query").send_keys(words, Keys.ENTER)
        self.wait(f"an answer to {words}", lambda: "ms" in self.text("#search-state") or self.all("#search-state .error"))


def newcomer(console):
    console.driver.get(console.address + "/")
    console.wait("the welcome", lambda: "Nothing here yet" in console.text("main"))
    console.expect("a command to begin with", "curl" in console.text("#welcome-curl"))
    console.shots("1-empty")


def ingest(console, paths):
    console.find("#files").send_keys("\n".join(paths))
    console.wait("four files", lambda: len(console.all("#uploads li")) == 4 and not console.all("#uploads progress"))
    said = console.text("#uploads")
    console.expect("one of Markdown, sixteen of JSON Lines, two of the table", all(f"{n} added" in said for n in (1, 16, 2)))
    console.expect("what is not taken is refused with a way out", "`quiver add` takes more" in said)
    console.wait("the numbers", lambda: "19" in console.text("#numbers"))
    console.find("#tab-add").click()
    console.shots("2-added")
    console.find("#tab-search").click()


def searching(console):
    console.find("#tab-search").send_keys("/")
    console.expect("`/` goes to the search", console.focused().get_attribute("id") == "query")
    console.search("keel boat")
    hits = console.all("#hits .hit")
    console.expect("hits", hits and "keel" in hits[0].text)
    marks = {mark.text.lower() for mark in console.all("#hits mark")}
    console.expect(f"marked words ({marks})", {"keel", "boat"} <= marks)
    console.find("#query").send_keys(Keys.ARROW_DOWN)
    console.expect("the arrow goes to the first hit", console.focused() == hits[0])
    console.focused().send_keys(Keys.ENTER)
    console.expect("Enter explains", "meaning" in hits[0].text and "fused" in hits[0].text)
    console.focused().send_keys(Keys.ARROW_DOWN)
    console.expect("and to the second", console.focused() == hits[1])
    console.find("#explain").click()
    console.wait("all explained", lambda: len(console.all("#hits details[open]")) == len(console.all("#hits .hit")) > 0)
    console.shots("3-found")
    console.find("input[value=text] + span").click()
    console.wait("words alone", lambda: "(text)" in console.text("#search-state"))
    console.find("input[value=hybrid] + span").click()
    console.wait("both again", lambda: "(hybrid)" in console.text("#search-state"))


def filtering(console):
    console.find("#filter").send_keys("broken(")
    console.search("ships")
    console.wait("a refusal that names the filter", lambda: console.all("#search-state .error"))
    console.shots("4-refused")
    for filter_text in ('{"topic": "ships"}', "topic = 'ships'"):
        console.find("#filter").clear()
        console.find("#filter").send_keys(filter_text)
        console.search("harbour")
        console.wait(f"hits by {filter_text}", lambda: "harbour" in console.text("#hits"))
        console.expect("hits of the topic alone", all("topic: ships" in hit.text for hit in console.all("#hits .hit")))
    console.find("#filter").clear()


def naughty(console):
    console.search("naughty")
    console.wait("the naughty one", lambda: "<script>" in console.text("#hits"))
    console.find("#hits .open").click()
    console.wait("the document", lambda: "and the end." in console.text("#document-text"))
    console.expect("its passage is marked", console.all("#document-text mark"))
    console.shots("5-document")
    console.find("#document-close").click()
    console.expect("nothing of it ran", console.driver.execute_script("return window.broken") is None)


def mapping(console):
    console.find("#tab-map").click()
    console.wait("19 points", lambda: len(console.all("#map circle")) == 19)
    console.find("#map").send_keys(Keys.ARROW_RIGHT)
    console.wait("a label", lambda: console.text("#map-label"))
    first = console.text("#map-label")
    for key in (Keys.ARROW_RIGHT, Keys.ARROW_LEFT, Keys.ARROW_DOWN, Keys.ARROW_UP):
        console.find("#map").send_keys(key)
    webdriver.ActionChains(console.driver).move_to_element(console.all("#map circle")[5]).perform()
    console.wait("the label of what is under the mouse", lambda: console.text("#map-label") not in ("", first))
    console.driver.execute_script("const it = arguments[0]; it.value = 'topic'; it.dispatchEvent(new Event('change'))", console.find("#map-field"))
    console.wait("colours by topic", lambda: "ships (5)" in console.text("#map-legend"))
    webdriver.ActionChains(console.driver).move_to_element(console.all("#map circle")[3]).perform()
    console.wait("a label", lambda: console.text("#map-label"))
    console.shots("6-map")
    console.expect("nothing ran in a label", console.driver.execute_script("return window.broken") is None)
    console.find("#tab-search").click()


def deleting(console):
    console.search("foghorn")
    console.wait("the foghorn", lambda: "foghorn" in console.text("#hits .hit"))
    console.find("#hits .danger").click()
    console.expect("it asks first, and keeps by default", console.focused().get_attribute("id") == "confirm-no")
    console.shots("7-asked")
    console.find("#confirm-no").click()
    console.find("#hits .danger").click()
    console.find("#confirm-yes").click()
    console.wait("one less", lambda: "18" in console.text("#numbers"))
    console.wait("it is not found", lambda: "A foghorn warns" not in console.text("#hits"))


def large_ids(console):
    """Two ids that are one number to JavaScript: what is opened and deleted is the one that is shown."""
    even, odd = 2**53, 2**53 + 1
    address = console.address + "/v1/collections/default/documents"

    def ask(method, url, body=None):
        request = urllib.request.Request(url, body, {"Content-Type": "application/x-ndjson"}, method=method)
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=SECONDS) as answer:
            return json.load(answer)

    rows = [{"id": even, "text": "The even heron stands."}, {"id": odd, "text": "The odd heron flies."}]
    ask("POST", address, "".join(json.dumps(row) + "\n" for row in rows).encode())
    console.search("odd heron flies")
    console.wait("its id to the last digit", lambda: str(odd) in console.text("#hits .hit"))
    console.find("#hits .open").click()
    console.wait("the odd one", lambda: "odd heron" in console.text("#document-text"))
    console.find("#document-close").click()
    console.find("#hits .danger").click()
    console.find("#confirm-yes").click()
    console.wait("it is not found", lambda: "odd heron flies" not in console.text("#hits"))
    console.expect("the odd one is gone", ask("GET", f"{address}/{odd}") is None)
    console.expect("the even one stays", ask("GET", f"{address}/{even}")["id"] == even)


def creating(console):
    console.find("#new-open").click()
    console.find("#new-name").send_keys("second one")
    console.shots("8-new")
    console.find("#new-form button[type=submit]").click()
    console.wait("an answer", lambda: console.text("#new-error") or console.text("#name") == "second one")
    if console.text("#name") != "second one":
        console.find("#new-name").clear()
        console.find("#new-name").send_keys("second", Keys.ENTER)
    console.wait("the new collection", lambda: console.text("#name").startswith("second"))
    console.wait("what to do with it", lambda: "This collection is empty" in console.text("main"))


def theme(console):
    before = console.driver.execute_script("return document.documentElement.dataset.theme")
    console.find("#theme").click()
    after = console.driver.execute_script("return document.documentElement.dataset.theme")
    console.expect("the switch changes the theme", {before, after} == {"light", "dark"})


def no_errors(console):
    # What the server refuses, and is meant to, the browser notes, too.
    noted = [entry for entry in console.driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    ours = [entry for entry in noted if "the server responded with a status of 4" not in entry["message"]]
    console.expect(f"the browser noted {ours}", not ours)


def main():
    address, screenshots = sys.argv[1].rstrip("/"), pathlib.Path(sys.argv[2])
    screenshots.mkdir(parents=True, exist_ok=True)
    console = Console(address, screenshots)
    try:
        with tempfile.TemporaryDirectory() as folder:
            newcomer(console)
            ingest(console, files(pathlib.Path(folder)))
            for scene in (searching, filtering, naughty, mapping, deleting, large_ids, creating, theme, no_errors):
                scene(console)
                print(scene.__name__)
    finally:
        console.driver.quit()
    print("the console does what it shows")


if __name__ == "__main__":
    main()
