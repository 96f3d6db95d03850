"""Layouts of data sets as people have them: taken, or refused in a sentence that says how."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from shiftedge.export.data import Layout, find_data
from shiftedge.runtime.errors import DataError

LABELS = ("Drumming Fingers", "No gesture", "Swiping Left")


def video(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")  # what is in it is not looked at here
    return path


def frames(folder: Path, count: int = 3) -> Path:
    for number in range(1, count + 1):
        video(folder / f"{number:05d}.jpg")
    return folder


def counted(layout: Layout) -> tuple[Counter[str], Counter[str] | None]:
    def count(clips: object) -> Counter[str]:
        return Counter(clip.label for clip in clips)  # type: ignore[attr-defined]

    return count(layout.learn), None if layout.check is None else count(layout.check)


def test_folders_of_labels(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        video(tmp_path / "left" / f"{number}.MP4")
    frames(tmp_path / "right" / "a")
    video(tmp_path / "right" / "._a.mp4")
    video(tmp_path / "right" / "notes.txt")
    video(tmp_path / "__MACOSX" / "left" / "1.mp4")
    video(tmp_path / ".hidden" / "1.mp4")
    video(tmp_path / "labels.txt")
    layout = find_data(tmp_path)
    assert layout.labels == ("left", "right")
    assert [clip.path.name for clip in layout.learn] == ["1.MP4", "9.MP4", "10.MP4", "a"]
    assert (layout.check, layout.missing, layout.notes) == (None, (), ())


@pytest.mark.parametrize("val", ["val", "valid", "Validation", "val_videos", "dev"])
@pytest.mark.parametrize("train", ["train", "Training"])
def test_folders_of_splits(tmp_path: Path, train: str, val: str) -> None:
    for split, count in ((train, 3), (val, 1), ("test", 2)):
        for label in ("left", "right"):
            for number in range(count):
                video(tmp_path / split / label / f"{number}.mp4")
    layout = find_data(tmp_path)
    assert layout.labels == ("left", "right")
    assert counted(layout) == ({"left": 3, "right": 3}, {"left": 1, "right": 1})
    assert layout.notes == (f"{tmp_path / 'test'} is left for a test of yours, and not read.",)


def test_a_train_folder_alone_is_split_and_test_is_not_read(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label in ("left", "right"):
            video(tmp_path / split / label / "1.mp4")
    layout = find_data(tmp_path)
    assert counted(layout) == ({"left": 1, "right": 1}, None)
    video(tmp_path / "val" / "left" / "1.mp4")
    assert find_data(tmp_path / "train").notes[0].endswith("instead of a part of these.")


def test_a_gesture_may_be_called_test(tmp_path: Path) -> None:
    for label in ("test", "other"):
        video(tmp_path / label / "1.mp4")
    assert find_data(tmp_path).labels == ("other", "test")


def jester(root: Path) -> Path:
    for number in range(1, 7):
        frames(root / "20bn-jester-v1" / str(number))
    (root / "jester-v1-train.csv").write_text(
        "1;Drumming Fingers\n2;No gesture\n3;Swiping Left\n4;Swiping Left\n"
    )
    (root / "jester-v1-validation.csv").write_text("5;No gesture\n")
    (root / "jester-v1-test.csv").write_text("6\n")
    (root / "jester-v1-labels.csv").write_text("\n".join(("Swiping Left", *LABELS[:2])) + "\n")
    return root


def test_jesters_own_layout(tmp_path: Path) -> None:
    root = jester(tmp_path)
    layout = find_data(root)
    assert counted(layout) == (
        {"Drumming Fingers": 1, "No gesture": 1, "Swiping Left": 2}, {"No gesture": 1},
    )  # fmt: skip
    assert layout.learn[0].path == root / "20bn-jester-v1" / "1"
    assert find_data(root / "jester-v1-train.csv") == layout
    with pytest.raises(DataError, match=r"If .*jester-v1-train.csv lists them, give that"):
        find_data(root / "20bn-jester-v1")
    with pytest.raises(DataError, match="by its name a list of clips to test with"):
        find_data(root / "jester-v1-test.csv")


def test_jester_as_it_is_shared_elsewhere(tmp_path: Path) -> None:
    for split, number in (("Train", 1), ("Train", 2), ("Validation", 3), ("Test", 4)):
        frames(tmp_path / split / str(number))
    header = "video_id,label,frames,label_id,shape,format\n"
    (tmp_path / "Train.csv").write_text(
        f'{header}1,Stop Sign,37,14,"(176, 100)",jpg\n2,Thumb Up,37,5,"(176, 100)",jpg\n'
    )
    (tmp_path / "Validation.csv").write_text(f'{header}3,Thumb Up,37,5,"(176, 100)",jpg\n')
    (tmp_path / "Test.csv").write_text("id,frames\n4,37\n")
    assert counted(find_data(tmp_path)) == ({"Stop Sign": 1, "Thumb Up": 1}, {"Thumb Up": 1})
    for name in ("Train", "Validation", "Test"):
        (tmp_path / f"{name}.csv").unlink()
    with pytest.raises(DataError, match="Train holds no folders of labels; expected"):
        find_data(tmp_path)


def test_the_lists_of_the_official_trainer(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        frames(tmp_path / "20bn-jester-v1" / str(number), 5)
    (tmp_path / "category.txt").write_text("\n".join(LABELS))
    (tmp_path / "train_videofolder.txt").write_text("1 5 0\n2 4 2\n")
    (tmp_path / "val_videofolder.txt").write_text("3 5 2\n")
    layout = find_data(tmp_path / "train_videofolder.txt")
    assert layout == find_data(tmp_path)
    assert [(clip.label, clip.frames) for clip in layout.learn] == [
        ("Drumming Fingers", 5), ("Swiping Left", 4),
    ]  # fmt: skip
    assert layout.labels == ("Drumming Fingers", "Swiping Left")
    assert layout.notes == (
        "1 of the 3 classes have no clips and are left out, such as 'No gesture'.",
    )
    (tmp_path / "train_videofolder.txt").write_text("1 5 0\n2 4 3\n")
    with pytest.raises(DataError, match=r"Line 2 of .* has class 3, and .*category.txt names 3"):
        find_data(tmp_path)


def test_mmactions_lists_beside_a_folder_of_videos(tmp_path: Path) -> None:
    for name in ("some/a", "some/b", "other/c"):
        video(tmp_path / "data" / "videos_train" / f"{name}.mp4")
    lists = tmp_path / "data"
    (lists / "my_train_list_videos.txt").write_text("some/a.mp4 0\nother/c.mp4 1\n")
    (lists / "my_val_list_videos.txt").write_text("some/b.mp4 0\n")
    names = tmp_path / "names.txt"
    names.write_text("first\nsecond\n")
    layout = find_data(lists, names)
    assert counted(layout) == ({"first": 1, "second": 1}, {"first": 1})
    unnamed = find_data(lists)
    assert unnamed.labels == ("0", "1")
    assert unnamed.notes[0].startswith("the classes have no names, so the labels are numbers")


def test_ucf101s_lists_in_a_folder_of_their_own(tmp_path: Path) -> None:
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_text("1 Archery\n2 Biking\n")
    (lists / "trainlist01.txt").write_text("Archery/a.avi 1\r\nBiking/b.avi 2\r\n")
    (lists / "trainlist02.txt").write_text("Archery/a.avi 1\n")
    (lists / "testlist01.txt").write_text("Archery/c.avi\n")
    for name in ("Archery/a", "Biking/b"):
        video(tmp_path / "UCF-101" / f"{name}.avi")
    assert counted(find_data(lists / "trainlist01.txt"))[0] == {"Archery": 1, "Biking": 1}
    with pytest.raises(DataError, match=r"holds 2 lists .*trainlist01.txt, trainlist02.txt"):
        find_data(lists)


def test_one_table_with_a_split(tmp_path: Path) -> None:
    for name in "abcd":
        video(tmp_path / "clips" / f"{name}.webm")
    (tmp_path / "clips.csv").write_text(
        "file,label,split\nclips\\a.webm,x,train\nclips/b.webm,y,train\n"
        "clips/c.webm,x,val\nclips/d.webm,y,test\n"
    )
    assert counted(find_data(tmp_path / "clips.csv")) == ({"x": 1, "y": 1}, {"x": 1})
    assert counted(find_data(tmp_path)) == ({"x": 1, "y": 1}, {"x": 1})


def test_clips_that_are_listed_and_not_there_are_counted(tmp_path: Path) -> None:
    for name in "ab":
        video(tmp_path / f"{name}.mp4")
    (tmp_path / "l.csv").write_text("a,left\nb,right\nc,left\nd,left\n")
    layout = find_data(tmp_path / "l.csv")
    assert counted(layout) == ({"left": 1, "right": 1}, None)  # the suffix is found
    assert layout.missing == (tmp_path / "c", tmp_path / "d")
    (tmp_path / "l.csv").write_text("c.mp4,left\nbb.mp4,right\n")
    with pytest.raises(DataError, match=r"Not one of the 2 clips that .*l.csv names is there"):
        find_data(tmp_path / "l.csv")


def test_a_missing_clip_is_not_taken_from_other_data(tmp_path: Path) -> None:
    frames(tmp_path / "mine" / "clips" / "1")
    frames(tmp_path / "mine" / "more" / "2")
    for number in ("1", "3"):
        frames(tmp_path / "another" / number)
    (tmp_path / "mine" / "l.csv").write_text("1,left\n2,right\n3,right\n")
    layout = find_data(tmp_path / "mine" / "l.csv")
    assert [str(clip.path.relative_to(tmp_path)) for clip in layout.learn] == [
        "mine/clips/1", "mine/more/2",
    ]  # fmt: skip
    assert len(layout.missing) == 1


def test_a_clip_in_both_lists_is_checked_with(tmp_path: Path) -> None:
    for name in "abc":
        video(tmp_path / f"{name}.mp4")
    (tmp_path / "train.txt").write_text("a.mp4,x\na.mp4,x\nb.mp4,y\nc.mp4,y\n")
    (tmp_path / "val.txt").write_text("b.mp4,y\n")
    layout = find_data(tmp_path)
    assert counted(layout) == ({"x": 1, "y": 1}, {"y": 1})
    assert any("1 clips are listed twice" in note for note in layout.notes)
    assert any("1 clips are listed both" in note for note in layout.notes)
    (tmp_path / "val.txt").write_text("b.mp4,x\n")
    with pytest.raises(DataError, match=r"gives .*b.mp4 the label 'x', and another line 'y'"):
        find_data(tmp_path)


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    for label in (b"left", b"right"):
        video(Path(os.fsdecode(root + b"/" + label + b"/v\xe9.mp4")))
    assert len(find_data(tmp_path).learn) == 2
    (tmp_path / "l.csv").write_bytes(b"left/v\xe9.mp4,a\nright/v\xe9.mp4,b\n")
    assert len(find_data(tmp_path / "l.csv").learn) == 2
    (tmp_path / "l.csv").write_bytes(b"left/v\xe9.mp4,\xe9\nright/v\xe9.mp4,b\n")
    with pytest.raises(DataError, match="has a label that is not UTF-8"):
        find_data(tmp_path / "l.csv")
    video(Path(os.fsdecode(root + b"/\xe9/a.mp4")))
    with pytest.raises(DataError, match="is not UTF-8 and cannot be a label"):
        find_data(tmp_path)


def test_an_accent_is_one_letter_on_every_system(tmp_path: Path) -> None:
    for split, name in (("train", "e\u0301t\u00e9"), ("val", "\u00e9t\u00e9")):
        for label in (name, "none"):
            video(tmp_path / split / label / "1.mp4")
    assert find_data(tmp_path).labels == ("none", "\u00e9t\u00e9")


def test_class_names_need_a_list(tmp_path: Path) -> None:
    for label in ("left", "right"):
        video(tmp_path / label / "1.mp4")
    with pytest.raises(DataError, match=r"holds no list whose classes .*names.txt could name"):
        find_data(tmp_path, tmp_path / "names.txt")


def nothing(root: Path) -> None:
    pass


def one_label(root: Path) -> None:
    video(root / "left" / "1.mp4")


def one_level_up(root: Path) -> None:
    for label in ("left", "right"):
        video(root / "set" / label / "1.mp4")


def split_below_the_labels(root: Path) -> None:
    for label in ("left", "right"):
        for split in ("train", "val"):
            video(root / label / split / "1.mp4")


def grouped_by_person(root: Path) -> None:
    for label in ("left", "right"):
        for person in ("anna", "bo"):
            video(root / label / person / "1.mp4")


def an_empty_label(root: Path) -> None:
    video(root / "left" / "1.mp4")
    (root / "right").mkdir()


def pictures_of_labels(root: Path) -> None:
    for label in ("left", "right"):
        frames(root / label)


def val_alone(root: Path) -> None:
    for label in ("left", "right"):
        video(root / "val" / label / "1.mp4")


def another_label_in_val(root: Path) -> None:
    for split, right in (("train", "right"), ("val", "Right")):
        for label in ("left", right):
            video(root / split / label / "1.mp4")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (nothing, "has 0 folders, and clips of 0 labels; expected one folder of clips for each"),
        (one_label, "clips of 1 labels ('left' alone); expected"),
        (one_level_up, "one folder further down than expected: {root}/<label>/<clip>; give {root}"),
        (split_below_the_labels, "put train and val above the labels"),
        (grouped_by_person, "move the clips up, or name them in a list (path,label)"),
        (an_empty_label, "right holds no clips; expected videos"),
        (pictures_of_labels, "left is a clip by itself and no folder of a label; expected"),
        (val_alone, "holds val and no folder train to learn from"),
        (another_label_in_val, "val has the label 'Right', and {root}/train has not"),
    ],
)
def test_what_is_almost_right(tmp_path: Path, make: Callable[[Path], None], sentence: str) -> None:
    make(tmp_path)
    with pytest.raises(DataError) as caught:
        find_data(tmp_path)
    assert sentence.format(root=tmp_path) in str(caught.value)


def test_what_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder; expected"):
        find_data(tmp_path / "nowhere")
    with pytest.raises(DataError, match="is a clip; expected a folder with one folder of clips"):
        find_data(video(tmp_path / "a.mp4"))
    with pytest.raises(DataError, match="is no list of clips; expected a folder"):
        find_data(video(tmp_path / "a.pdf"))


@pytest.mark.parametrize("folder", ["annotations", "labels"])
def test_lists_in_a_folder_beside_that_of_the_clips(tmp_path: Path, folder: str) -> None:
    lists = tmp_path / folder
    lists.mkdir()
    for split, numbers in (("Train", (1, 2)), ("Validation", (3, 4))):
        for number in numbers:
            frames(tmp_path / split / str(number))
        rows = [f"{number},{LABELS[number % 2]}" for number in numbers]
        (lists / f"{split}.csv").write_text("\n".join(["video_id,label", *rows]))
    (lists / "Test.csv").write_text("id\n9\n")
    learn, check = counted(find_data(tmp_path))
    assert learn == check == Counter(LABELS[:2])


def test_a_list_of_another_machine(tmp_path: Path) -> None:
    """The official TSM code's tools write absolute paths."""
    for number in range(6):
        frames(tmp_path / "rgb" / f"v{number}")
    (tmp_path / "category.txt").write_text("left\nright\n")
    for name, numbers in (("train", range(4)), ("val", range(4, 6))):
        rows = [f"/ssd/video/mine/rgb/v{number} 3 {number % 2}\n" for number in numbers]
        (tmp_path / f"{name}_videofolder.txt").write_text("".join(rows))
    layout = find_data(tmp_path / "train_videofolder.txt")
    assert [clip.path for clip in layout.learn] == [tmp_path / "rgb" / f"v{n}" for n in range(4)]
    assert counted(layout) == (Counter(left=2, right=2), Counter(left=1, right=1))
    assert layout.notes[0] == (
        f"{tmp_path / 'train_videofolder.txt'} names clips in /ssd/video/mine, which is not here; "
        f"they are read from {tmp_path}."
    )


def test_names_are_never_shortened_to_what_several_share(tmp_path: Path) -> None:
    data = tmp_path / "mine"  # folders beside it are looked into as well
    video(data / "1.mp4")
    (data / "train.csv").write_text("/far/left/1.mp4,left\n/far/right/1.mp4,right\n")
    with pytest.raises(DataError, match="Not one of the 2 clips"):
        find_data(data)


@pytest.mark.parametrize("where", ["", "labels"])
def test_json_lists_are_told_as_such(tmp_path: Path, where: str) -> None:
    (tmp_path / where).mkdir(exist_ok=True)
    listed = tmp_path / where / "something-something-v2-train.json"
    listed.write_text("[]")
    video(tmp_path / "20bn-something-something-v2" / "1.webm")
    for data in (tmp_path, listed):
        with pytest.raises(DataError, match=r"train\.json is not a list that is read here; write"):
            find_data(data)
    if not where:  # beside folders of labels it is nobody's concern
        (tmp_path / "20bn-something-something-v2").rename(tmp_path / LABELS[0])
        video(tmp_path / LABELS[1] / "1.mp4")
        assert find_data(tmp_path).learn


def test_an_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"clips\.zip is an archive; unpack it"):
        find_data(video(tmp_path / "clips.zip"))


def test_splits_in_a_folder_of_their_own(tmp_path: Path) -> None:
    """As archives unpack."""
    for label in LABELS:
        video(tmp_path / "set" / "train" / label / "1.mp4")
    with pytest.raises(DataError, match="holds set alone, and the labels are in that; give"):
        find_data(tmp_path)
    assert find_data(tmp_path / "set").labels == LABELS
