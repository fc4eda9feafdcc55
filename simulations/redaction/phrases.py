"""Write down how people name themselves and others in messages: templates for training, in the words of tokens."""

PHRASES = """
my name is {PER}
My name is {PER} and I live in {LOC} .
Hi , I 'm {PER} from {ORG} .
I am {PER} , I work at {ORG} as a nurse .
Dear {PER} ,
Dear Mr. {PER} ,
Dear Dr. {PER} , thank you for your letter .
Hello {PER} , can you send me the report ?
Best regards , {PER}
Kind regards , {PER} {ORG}
Thanks , {PER}
Sincerely , {PER}
Please write an email to {PER} about the meeting .
Please write a letter to my boss {PER} at {ORG} .
Can you help me write a cover letter for a job at {ORG} ?
I have an interview at {ORG} in {LOC} next week .
I moved from {LOC} to {LOC} last year .
We are planning a trip to {LOC} and {LOC} .
What is the weather like in {LOC} in May ?
My son {PER} goes to {ORG} .
My wife {PER} and I are from {LOC} .
my daughter {PER} was born in {LOC}
My friend {PER} told {PER} that she quit .
The patient , {PER} , was admitted to {ORG} .
Patient {PER} lives in {LOC} .
Seen today by Dr. {PER} at {ORG} .
Referred by {PER} , {ORG} , {LOC} .
{PER} called about her account .
Customer {PER} complained about the delay .
Invoice to {ORG} , {LOC} .
Write a story about a girl named {PER} who lives in {LOC} .
Write a story about two brothers , {PER} and {PER} .
{PER} : hello
{PER} : how are you ?
User : {PER}
Name : {PER}
Patient : {PER}
Employer : {ORG}
City : {LOC}
Address : {LOC}
Company : {ORG}
Contact : {PER} , {ORG}
From : {PER}
To : {PER}
Cc : {PER} , {PER}
Subject : meeting with {PER}
Attendees : {PER} , {PER} , {PER}
I studied at {ORG} and now work for {ORG} .
She joined {ORG} in 2019 .
{PER} is the CEO of {ORG} .
{PER} , CEO of {ORG} , said on Monday that sales fell .
Our supplier {ORG} is based in {LOC} .
Summarise the following text by {PER} .
Summarize the annual report of {ORG} .
Tell me about {PER} .
Who is {PER} ?
Where is {LOC} ?
What does {ORG} do ?
Compare {ORG} and {ORG} .
translate this email from {PER} at {ORG} into German
Rewrite this in a polite tone : {PER} has not paid {ORG} yet .
I spoke with {PER} yesterday .
Yesterday {PER} visited {LOC} with {PER} .
Is {PER} available on Tuesday ?
Tell {PER} that {PER} is late .
Ask {PER} whether {ORG} has signed .
The contract between {ORG} and {ORG} ends in June .
This agreement is made between {ORG} and {PER} .
Mr. {PER} and Mrs. {PER} of {LOC}
{PER} lives at 12 Main Street , {LOC} .
The office in {LOC} is closed .
{ORG} opened a branch in {LOC} .
Our team in {LOC} works with {ORG} .
I am a teacher in {LOC} .
I was born in {LOC} and raised in {LOC} .
My manager , {PER} , never answers .
My landlord {PER} wants to raise the rent .
My doctor , Dr. {PER} , said I should rest .
My boyfriend {PER} and his sister {PER} fight a lot .
Prof. {PER} teaches at {ORG} in {LOC} .
Signed by {PER} for {ORG} .
{PER} 's mother is from {LOC} .
{PER} 's report is due .
the {LOC} office of {ORG}
Write a biography of {PER} , a painter from {LOC} .
act as {PER}
Pretend you are {PER} from {ORG} .
Give me a summary of the case {PER} v. {ORG} .
Please book a flight from {LOC} to {LOC} for {PER} .
my colleagues {PER} and {PER} at {ORG}
""".strip().splitlines()

PLAIN = """
Can you help me write a cover letter ?
Write a Python function that sorts a list .
Please summarise the text below .
What is the capital of the country ?
I need an Excel formula for this table .
The Function should return True .
Explain the difference between TCP and UDP .
How do I fix this error in JavaScript ?
Write a poem about Spring .
Create a Marketing Plan for a new Product .
Act as a Linux Terminal .
You are a helpful assistant .
Give me Ten Ideas for a Blog Post .
Dear Sir or Madam ,
Best regards ,
Hello , how are you ?
I Love You
Q : What is it ? A : Nothing .
import numpy as np
def main ( ) : return None
SELECT * FROM Users WHERE Id = 1
Step 1 : Open the File menu .
Chapter One : The Beginning
Introduction
Table of Contents
Thank You !
Monday , Tuesday and Wednesday
In January the price fell .
Patient : male , 54 years old .
Temperature : 38 C
The Customer shall pay the Supplier .
Sprint Review and Planning Meeting
""".strip().splitlines()
