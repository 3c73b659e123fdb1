"""The lifecycle of one supervised process or task, from incarnation to incarnation."""
