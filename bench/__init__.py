"""The benchmark: cases named once, one module per question, one adapter per engine. README.md says how to run it."""
