"""The glue: the only room that knows pytest and Allure."""
