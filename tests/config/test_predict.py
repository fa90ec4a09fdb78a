"""The words of task=predict: needed there, refused elsewhere."""

import pytest

from velm_train.cli.compose import load_config
from velm_train.core.errors import ConfigError

WORDS = ["task=predict", "ckpt=runs/a", "input=new/"]


def test_folder_list_glob_and_stdin_are_taken_as_they_are() -> None:
    assert load_config(WORDS).input == "new/"
    assert load_config([*WORDS[:2], "input=[a.png,b/]"]).input == ["a.png", "b/"]
    assert load_config([*WORDS[:2], "input=new/*.png"]).input == "new/*.png"
    assert load_config([*WORDS[:2], "input=-"]).input == "-"
    config = load_config([*WORDS, "category=cable", "predict.abstain_below=0.5"])
    assert (config.name, config.category, config.predict.abstain_below) == ("predict", "cable", 0.5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task=predict"], r"^ckpt=null is not possible; allowed: for example task=predict ckpt="),
        (WORDS[:2], r"^input=null is not possible; allowed: for example task=predict input="),
        ([*WORDS[:2], "input=[]"], r"^input=\[\] is not possible"),
        ([*WORDS[:2], "input=[7]"], r"^input=\[7\] is not possible; allowed: a path, or a list of paths, each as text"),
        (["input=new/"], r"^input=new/ is not possible; allowed: null unless"),
        (["category=cable"], r"^category=cable is not possible; allowed: null unless task=predict"),
        ([*WORDS, "predict.batch=0"], r"^predict\.batch=0 is not possible; allowed: 1 or more"),
        ([*WORDS, "predict.abstain_below=1.5"], r"^predict\.abstain_below=1\.5 is not possible; allowed: 0\.0 to 1\.0"),
        ([*WORDS, "predict.max_drawn=-1"], r"^predict\.max_drawn=-1 is not possible; allowed: 0 or more"),
    ],
)
def test_impossible_words_are_refused_by_name(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(words)
