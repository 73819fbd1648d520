import settings_page

from convlora.settings import SETTINGS


def test_the_committed_page_is_the_generated_one():
    text = settings_page.PAGE.read_text(encoding="utf-8")
    assert settings_page.page(text) == text, "run: python scripts/settings_page.py"


def test_what_is_written_by_hand_stays():
    made = settings_page.page(f"before\n{settings_page.BEGIN}\nold\n{settings_page.END}\nafter\n")
    assert made.startswith("before\n")
    assert made.endswith("\nafter\n")
    assert "old" not in made.splitlines()
    for key in SETTINGS:
        assert f"`{key}`" in made
