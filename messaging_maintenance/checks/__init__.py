"""What `identity check` looks at: a module for each subject, whose functions return `result.Item`s and change nothing.

`catalogue` names every check, `running` runs them side by side within a time limit, `report` prints what they found.
"""
