"""What a library knows of languages: how frequent their words are (wordfreq)."""

from honeyguide.engines.language.frequencies import known_languages, primary, word_frequencies

__all__ = ["known_languages", "primary", "word_frequencies"]
