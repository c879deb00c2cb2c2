"""Instruction data: tasks as data, answer formats with their parsers, metrics, conversations and preference pairs."""
