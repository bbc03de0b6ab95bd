"""A sentence is one line that can be printed, whatever it quotes."""

from anomaly_lib.errors import DataError, one_line


def test_line_breaks_control_characters_and_lone_surrogates_are_written_out() -> None:
    assert one_line("a\nb\r\t\x1b[31m\u2028\x85\udcff") == r"a\nb\r\t\x1b[31m\u2028\x85\udcff"


def test_words_of_any_language_stay_as_they_are() -> None:
    words = "Große Mutter, 螺母 №5 \u3000\N{NO-BREAK SPACE}"
    assert one_line(words) == words


def test_an_error_is_one_line_that_can_be_encoded() -> None:
    said = str(DataError("no such image: a\nb\udcff.png"))
    assert said == r"no such image: a\nb\udcff.png"
    assert said.encode()
