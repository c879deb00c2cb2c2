from redone_data.text.kernel import source_stamp


def test_an_edit_to_any_kernel_of_a_folder_recompiles_all_that_may_inline_it(tmp_path):
    (tmp_path / "a.py").write_text("x = 1")
    (tmp_path / "b.py").write_text("y = 1")
    source_stamp.cache_clear()
    before = source_stamp(tmp_path)
    source_stamp.cache_clear()
    assert source_stamp(tmp_path) == before
    (tmp_path / "b.py").write_text("y = 2")
    source_stamp.cache_clear()
    assert source_stamp(tmp_path) != before
